import CBlockFFN
import Dispatch
import Foundation

/// Owns the native runner; whoever may still call into it holds this object.
final class NativeHandle: @unchecked Sendable {
  let pointer: OpaquePointer

  init(_ pointer: OpaquePointer) { self.pointer = pointer }

  deinit { blockffn_runner_free(pointer) }
}

/// One generation, from the moment it is asked for: lets any thread cancel it, whatever its state.
final class Run: @unchecked Sendable {
  private enum State { case waiting, running, finished }

  private let handle: NativeHandle
  private let lock = NSLock()
  private var state = State.waiting
  private var cancelled = false

  init(_ handle: NativeHandle) { self.handle = handle }

  var isCancelled: Bool { lock.withLock { cancelled } }

  /// False if the run was cancelled before its turn came.
  func begin() -> Bool {
    lock.withLock {
      guard !cancelled else { return false }
      state = .running
      return true
    }
  }

  func finish() { lock.withLock { state = .finished } }

  func cancel() {
    lock.withLock { cancelled = true }
    interrupt()
  }

  /// The native call forgets a cancellation that comes just before it starts, so this repeats it until the
  /// run has ended. A run that waits for its turn must not disturb the one before it.
  private func interrupt() {
    lock.withLock {
      guard state == .running else { return }
      blockffn_runner_cancel(handle.pointer)
      DispatchQueue.global().asyncAfter(deadline: .now() + .milliseconds(5)) { self.interrupt() }
    }
  }
}

/// The runs of an engine that have not ended.
final class RunList: @unchecked Sendable {
  private let lock = NSLock()
  private var runs: [ObjectIdentifier: Run] = [:]

  func add(_ run: Run) { lock.withLock { runs[ObjectIdentifier(run)] = run } }

  func remove(_ run: Run) { lock.withLock { runs[ObjectIdentifier(run)] = nil } }

  func cancelAll() {
    for run in lock.withLock({ Array(runs.values) }) { run.cancel() }
  }
}
