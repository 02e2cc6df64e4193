import BlockFFNKit
import Foundation
import Testing

@testable import BlockFFNDemoModel

@MainActor @Suite struct BenchmarkModelTests {
  private static func device(_ thermal: ThermalLevel = .nominal) -> DeviceSnapshot {
    DeviceSnapshot(model: "iPhone0,0", system: "iOS 17.0", thermal: thermal, battery: 0.5)
  }

  @Test func everyCaseRunsInTurnsAndTheReportAddsUp() async throws {
    let engine = FakeEngine()
    let loader = FakeLoader { engine }
    let model = BenchmarkModel(load: loader.loader) { Self.device() }
    model.rounds = 2
    await model.run(.fake(head: true))
    guard case .finished(let report) = model.phase else {
      Issue.record("\(model.phase)")
      return
    }
    #expect(
      report.rows.map(\.title) == [
        "Dense, off", "Dense, n-gram", "Dense, chain", "Dense, tree",
        "Sparse, off", "Sparse, n-gram", "Sparse, chain", "Sparse, tree",
      ])
    #expect(report.rows.allSatisfy { $0.tokensPerSecond == [100, 100] && $0.median == 100 })
    #expect(report.rows.allSatisfy { $0.tokensPerCycle == 2 && $0.expertsRead == 0.19 })
    #expect(report.speedup(report.rows[7]) == 1 && report.sameText && report.isTrustworthy)
    // One warm-up round and two that count, in turns.
    let calls = engine.calls
    #expect(calls.count == 24 && loader.loads.count == 1 && loader.loadedFor == [.cpu])
    for round in 0..<3 {
      let options = calls[round * 8..<round * 8 + 8].map(\.options)
      #expect(options.map(\.experts) == [.all, .all, .all, .all, .active, .active, .active, .active])
      for half in [options.prefix(4), options.suffix(4)] {
        #expect(half.map(\.mode) == [.plain, .automatic, .automatic, .automatic])
        #expect(half.map(\.drafter) == [.ngram, .ngram, .head, .head])
      }
    }
    #expect(calls.allSatisfy { $0.options.temperature == 0 && $0.options.maxTokens == 128 })
  }

  @Test func theReportIsJSONThatComesBack() async throws {
    let model = BenchmarkModel(load: FakeLoader { FakeEngine() }.loader) { Self.device() }
    await model.run(.fake())
    guard case .finished(let report) = model.phase else {
      Issue.record("\(model.phase)")
      return
    }
    let file = try report.write(to: FileManager.default.temporaryDirectory)
    defer { try? FileManager.default.removeItem(at: file) }
    #expect(file.lastPathComponent == "blockffn-benchmark-tiny--int8.json")
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    var back = try decoder.decode(BenchmarkReport.self, from: Data(contentsOf: file))
    #expect(abs(back.date.timeIntervalSince(report.date)) < 1)
    back.date = report.date
    #expect(back == report)
  }

  @Test func figuresOfAHotDeviceAreMarked() async throws {
    let model = BenchmarkModel(load: FakeLoader { FakeEngine() }.loader) { Self.device(.serious) }
    await model.run(.fake())
    guard case .finished(let report) = model.phase else {
      Issue.record("\(model.phase)")
      return
    }
    #expect(!report.isTrustworthy)
  }

  @Test func otherTextIsNoticed() async throws {
    let attempts = Attempts()
    let model = BenchmarkModel(load: { _, _ in ChangingEngine(attempts) }) { Self.device() }
    await model.run(.fake())
    guard case .finished(let report) = model.phase else {
      Issue.record("\(model.phase)")
      return
    }
    #expect(!report.sameText)
  }

  @Test(arguments: ["stop", "memory", "heat", "background"])
  func whateverEndsItIsAState(_ reason: String) async throws {
    let model = BenchmarkModel(load: FakeLoader { FakeEngine(blocks: true) }.loader) { Self.device() }
    let running = Task { await model.run(.fake()) }
    try await eventually { model.isRunning && model.phase != .running(0, "Loading") }
    model.thermalChanged(to: .serious)
    switch reason {
    case "stop": model.stop()
    case "memory": model.memoryWarning()
    case "heat": model.thermalChanged(to: .critical)
    default: model.enteredBackground()
    }
    await running.value
    switch (reason, model.phase) {
    case ("stop", .stopped), ("background", .stopped): break
    case ("memory", .failed(let text)): #expect(text.contains("memory"))
    case ("heat", .failed(let text)): #expect(text.contains("hot"))
    default: Issue.record("\(reason): \(model.phase)")
    }
    #expect(!model.isRunning)
  }

  @Test func aProgramThatCannotBeLoadedIsAState() async throws {
    let model = BenchmarkModel(
      load: FakeLoader { throw EngineError(.badProgram, "model-int8.pte: truncated") }.loader
    ) { Self.device() }
    await model.run(.fake())
    #expect(model.phase == .failed("model-int8.pte: truncated"))
  }

  @Test func mediansOfOddAndEvenNumbers() {
    #expect(median([3, 1, 2]) == 2 && median([4, 1, 2, 3]) == 2.5 && median([]) == nil)
  }
}

/// Says something else every time.
private struct ChangingEngine: ChatEngine {
  let attempts: Attempts
  let device = "cpu"
  let info = ModelInfo(maxContext: 64, vocabularySize: 100, hiddenSize: 8, kernels: "fake")

  init(_ attempts: Attempts) { self.attempts = attempts }

  func generate(_ prompt: String, options: GenerationOptions, stop: [String]) -> GenerationStream<String> {
    FakeEngine(["\(attempts.next())"]).generate(prompt, options: options, stop: stop)
  }

  func chat(_ messages: [ChatMessage], options: GenerationOptions, stop: [String]) -> GenerationStream<String> {
    generate("", options: options, stop: stop)
  }

  func stop() {}
}
