import Foundation
import Testing

@testable import BlockFFNKit

/// Whatever the moment, a cancelled generation ends, and the engine stays usable.
@Suite(.serialized) struct CancellationTests {
  /// Far more than any test waits for.
  static let long = { (mode: Int) in options(mode, maxTokens: 3000) }

  @Test(arguments: everyMode.indices)
  func stoppingKeepsTheTextSoFar(_ mode: Int) async throws {
    let engine = try await Fixture.engine()
    let golden = try #require(Fixture.golden.cases.first)
    var text = ""
    var final: GenerationStats?
    for try await event in engine.generate(golden.prompt, options: Self.long(mode)) {
      switch event {
      case .piece(let piece):
        text += piece
        engine.stop()
      case .finished(let stats): final = stats
      }
    }
    let stats = try #require(final)
    #expect(stats.stop == .cancelled)
    #expect(stats.generatedTokens > 0 && stats.generatedTokens < 3000)
    #expect(text.hasPrefix(golden.text) || golden.text.hasPrefix(text))
    try await expectUsable(engine)
  }

  @Test func cancellingTheTaskEndsTheRun() async throws {
    let engine = try await Fixture.engine()
    let prompt = try #require(Fixture.golden.cases.first).prompt
    let task = Task {
      var pieces = 0
      for try await _ in engine.generate(prompt, options: Self.long(0)) { pieces += 1 }
      return pieces
    }
    try await Task.sleep(for: .milliseconds(50))
    task.cancel()
    #expect(try await task.value < 3000)
    try await expectUsable(engine)  // waits for the run's end
  }

  @Test func leavingTheLoopEndsTheRun() async throws {
    let engine = try await Fixture.engine()
    let prompt = try #require(Fixture.golden.cases.first).prompt
    for try await _ in engine.generate(prompt, options: Self.long(0)) { break }
    try await expectUsable(engine)
  }

  @Test func aRunThatWaitsIsCancelledWithoutHarmToTheOneBefore() async throws {
    let engine = try await Fixture.engine()
    let golden = try #require(Fixture.golden.cases.first)
    let first = Task {
      try await engine.generate(golden.prompt, options: options(0, maxTokens: golden.tokens.count))
        .collect()
    }
    let second = Task { try await engine.generate(golden.prompt, options: Self.long(0)).collect() }
    await Task.yield()
    second.cancel()
    let result = try await first.value
    #expect(result.pieces.joined() == golden.text && result.stats?.stop == .maxTokens)
    _ = try await second.value
  }

  @Test func cancellingAtAnyMomentEndsTheRun() async throws {
    let engine = try await Fixture.engine()
    let prompt = try #require(Fixture.golden.cases.first).prompt
    for delay in 0..<20 {
      let task = Task { try await engine.generate(prompt, options: Self.long(0)).collect() }
      try await Task.sleep(for: .microseconds(delay * 50))
      engine.stop()
      task.cancel()
      _ = try await task.value
    }
    try await expectUsable(engine)
  }

  @Test func stoppingWithoutARunDoesNothing() async throws {
    let engine = try await Fixture.engine()
    engine.stop()
    try await expectUsable(engine)
  }

  private func expectUsable(_ engine: Engine) async throws {
    let golden = try #require(Fixture.golden.cases.last)
    let text = try await engine.generate(
      golden.prompt, options: options(1, maxTokens: golden.tokens.count)
    ).collect().pieces.joined()
    #expect(text == golden.text)
  }
}
