import BlockFFNKit
import Foundation

@testable import BlockFFNDemoModel

/// Answers with given pieces, or blocks after the first until it is stopped.
final class FakeEngine: ChatEngine, @unchecked Sendable {
  struct Call: Equatable {
    var prompt = ""
    var messages: [ChatMessage] = []
    var options: GenerationOptions
  }

  let info: ModelInfo
  let device: String
  private let pieces: [String]
  private let failure: EngineError?
  private let blocks: Bool
  private let lock = NSLock()
  private var stopped = false
  private var received: [Call] = []

  init(
    _ pieces: [String] = ["Hello", ", ", "world"], failure: EngineError? = nil, blocks: Bool = false,
    chatTemplate: String? = nil, device: String = "cpu"
  ) {
    self.device = device
    self.pieces = pieces
    self.failure = failure
    self.blocks = blocks
    info = ModelInfo(
      maxContext: 64, vocabularySize: 100, hiddenSize: 8, kernels: "fake", chatTemplate: chatTemplate)
  }

  var calls: [Call] { lock.withLock { received } }

  func generate(_ prompt: String, options: GenerationOptions, stop: [String]) -> GenerationStream<String> {
    stream(Call(prompt: prompt, options: options))
  }

  func chat(_ messages: [ChatMessage], options: GenerationOptions, stop: [String]) -> GenerationStream<String> {
    stream(Call(messages: messages, options: options))
  }

  func stop() { lock.withLock { stopped = true } }

  private func stream(_ call: Call) -> GenerationStream<String> {
    lock.withLock {
      received.append(call)
      stopped = false
    }
    return AsyncThrowingStream { continuation in
      Task {
        var stats = GenerationStats()
        stats.stop = .endOfText
        for (index, piece) in pieces.enumerated() {
          continuation.yield(.piece(piece))
          while blocks, index == 0, !lock.withLock({ stopped }) { try await Task.sleep(for: .milliseconds(1)) }
          if lock.withLock({ stopped }) {
            stats.stop = .cancelled
            break
          }
        }
        if let failure { return continuation.finish(throwing: failure) }
        stats.generatedTokens = 11
        stats.cycles = 5
        stats.acceptedTokens = 5
        stats.decodeMs = 100
        stats.timeToFirstTokenMs = 12.4
        stats.expertsRead = 0.19
        stats.peakResidentBytes = 312_000_000
        continuation.yield(.finished(stats))
        continuation.finish()
      }
    }
  }
}

/// Hands out engines and remembers what was asked for.
final class FakeLoader: @unchecked Sendable {
  private let lock = NSLock()
  private var asked: [String] = []
  private var devices: [ComputeDevice] = []
  private let make: @Sendable () throws -> FakeEngine

  init(_ make: @escaping @Sendable () throws -> FakeEngine) { self.make = make }

  var loads: [String] { lock.withLock { asked } }
  var loadedFor: [ComputeDevice] { lock.withLock { devices } }

  var loader: EngineLoader {
    { entry, device in
      self.lock.withLock {
        self.asked.append(entry.name)
        self.devices.append(device)
      }
      return try self.make()
    }
  }
}

extension ModelEntry {
  static func fake(_ folder: String = "tiny", head: Bool = false) -> ModelEntry {
    let folder = URL(fileURLWithPath: "/models/\(folder)")
    return ModelEntry(
      program: folder.appendingPathComponent("model-int8.pte"),
      draftHead: head ? folder.appendingPathComponent("draft-int8.pte") : nil,
      tokenizer: folder.appendingPathComponent("tokenizer.json"), tokenizerConfig: nil, bytes: 25_000_000)
  }
}

/// Waits for a change that another task makes.
@MainActor func eventually(_ condition: () -> Bool) async throws {
  for _ in 0..<2000 {
    if condition() { return }
    try await Task.sleep(for: .milliseconds(1))
  }
  throw TimedOut()
}

struct TimedOut: Error {}
