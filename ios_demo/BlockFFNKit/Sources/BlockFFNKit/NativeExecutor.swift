import Dispatch

/// Runs the engine's work on a thread of its own: a generation blocks for seconds, and Swift's shared
/// threads must not block.
final class NativeExecutor: SerialExecutor {
  private let queue = DispatchQueue(label: "blockffn.engine", qos: .userInitiated)

  func enqueue(_ job: consuming ExecutorJob) {
    let unowned = UnownedJob(job)
    queue.async { unowned.runSynchronously(on: self.asUnownedSerialExecutor()) }
  }

  func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }

  /// For work that comes before there is an actor.
  func run<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
      queue.async { continuation.resume(with: Swift.Result(catching: body)) }
    }
  }
}
