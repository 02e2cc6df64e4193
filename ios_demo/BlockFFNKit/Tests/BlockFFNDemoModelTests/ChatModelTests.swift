import BlockFFNKit
import Foundation
import Testing

@testable import BlockFFNDemoModel

/// The chat screen's state, with an engine that stands in for the native one.
@MainActor @Suite struct ChatModelTests {
  private func ready(_ engine: FakeEngine, _ entry: ModelEntry = .fake()) async -> ChatModel {
    let model = ChatModel(load: FakeLoader { engine }.loader)
    await model.select(entry)
    return model
  }

  @Test func anAnswerArrivesWithItsFigures() async throws {
    let engine = FakeEngine()
    let model = await ready(engine)
    #expect(model.phase == .ready && !model.canSend)
    model.prompt = "  \n"
    #expect(!model.canSend)
    model.prompt = "Say hello"
    #expect(model.canSend)
    await model.send()
    let turn = try #require(model.turns.first)
    #expect(turn.prompt == "Say hello" && turn.answer == "Hello, world" && turn.note == nil)
    #expect(
      turn.figures?.line == "TTFT 12 ms · 100.0 tok/s · 2.00 tok/cycle · 19 % experts · 312 MB · fake")
    #expect(turn.figures?.spoken.contains("19 percent of the experts") == true)
    #expect(model.phase == .ready && model.prompt.isEmpty)
    #expect(engine.calls == [.init(prompt: "Say hello", options: model.settings.options)])
  }

  @Test func stoppingKeepsTheAnswerSoFar() async throws {
    let model = await ready(FakeEngine(blocks: true))
    model.prompt = "Go on"
    let sending = Task { await model.send() }
    try await eventually { model.turns.first?.answer == "Hello" }
    #expect(model.isGenerating && !model.canSend)
    model.stop()
    await sending.value
    #expect(model.turns[0].answer == "Hello" && model.turns[0].note == "Stopped.")
    #expect(model.phase == .ready)
  }

  @Test func aFailedRunSaysWhyAndTheModelStaysUsable() async throws {
    let model = await ready(FakeEngine(failure: EngineError(.contextFull, "the prompt has 99 tokens")))
    model.prompt = "Too long"
    await model.send()
    #expect(model.turns[0].note == "the prompt has 99 tokens" && model.turns[0].figures == nil)
    #expect(model.phase == .ready)
  }

  @Test func aProgramThatCannotBeLoadedIsAState() async throws {
    let attempts = Attempts()
    let model = ChatModel(
      load: FakeLoader {
        if attempts.next() == 1 { throw EngineError(.badProgram, "model-int8.pte: truncated") }
        return FakeEngine()
      }.loader)
    await model.select(.fake())
    #expect(model.phase == .failed("model-int8.pte: truncated"))
    model.prompt = "Hello"
    #expect(!model.canSend)
    await model.retry()
    #expect(model.phase == .ready && model.canSend)
  }

  @Test func aConversationIsPassedOnWhereThereIsAChatTemplate() async throws {
    let engine = FakeEngine(["Yes"], chatTemplate: "chatml")
    let model = await ready(engine)
    for prompt in ["One?", "Two?"] {
      model.prompt = prompt
      await model.send()
    }
    #expect(engine.calls[1].messages == [.init(.user, "One?"), .init(.assistant, "Yes"), .init(.user, "Two?")])
  }

  @Test func theSwitchesBecomeOptions() async throws {
    let engine = FakeEngine()
    let model = await ready(engine, .fake(head: true))
    for speculation in Speculation.allCases {
      var settings = model.settings
      settings.speculation = speculation
      settings.maxTokens = 7
      settings.temperature = speculation == .tree ? 0.8 : 0
      model.apply(settings)
      model.prompt = "x"
      await model.send()
    }
    let options = engine.calls.map(\.options)
    #expect(options.map(\.mode) == [.plain, .automatic, .automatic, .automatic])
    #expect(options.map(\.drafter) == [.ngram, .ngram, .head, .head])
    #expect(options.map(\.draftWidth)[2] == 1 && options.map(\.draftWidth)[3] > 1)
    #expect(options.allSatisfy { $0.maxTokens == 7 })
    #expect(options.map(\.topP) == [1, 1, 1, 0.95])
  }

  @Test func switchesThatTheModelCannotFollowStayOff() async throws {
    let loader = FakeLoader { FakeEngine() }
    let model = ChatModel(load: loader.loader)
    await model.select(.fake())
    #expect(!model.isAvailable(.tree) && model.isAvailable(.ngram))
    var settings = model.settings
    settings.speculation = .tree
    model.apply(settings)
    #expect(model.settings.speculation == .ngram)
    #expect(loader.loads.count == 1)
  }

  @Test func denseAndSparseRunOnOneLoadedProgram() async throws {
    let engine = FakeEngine()
    let loader = FakeLoader { engine }
    let model = ChatModel(load: loader.loader)
    await model.select(.fake(head: true))
    for (dense, speculation) in [(false, Speculation.chain), (true, .chain), (true, .off), (false, .off)] {
      var settings = model.settings
      settings.dense = dense
      settings.speculation = speculation
      model.apply(settings)
      #expect(model.settings == settings && model.phase == .ready)
      model.prompt = "x"
      await model.send()
    }
    #expect(engine.calls.map(\.options.experts) == [.active, .all, .all, .active])
    #expect(engine.calls.map(\.options.mode) == [.automatic, .automatic, .plain, .plain])
    #expect(loader.loads == ["tiny, int8"])
    var settings = model.settings
    settings.speculation = .tree
    model.apply(settings)
    await model.select(.fake("other"))  // without a head
    #expect(loader.loads == ["tiny, int8", "other, int8"] && model.settings.speculation == .ngram)
  }

  @Test func selectingAnotherModelEndsTheAnswer() async throws {
    let model = await ready(FakeEngine(blocks: true))
    model.prompt = "Go on"
    let sending = Task { await model.send() }
    try await eventually { model.turns.first?.answer == "Hello" }
    await model.select(.fake("other"))
    await sending.value
    #expect(model.phase == .ready && model.turns.isEmpty && model.selected?.name == "other, int8")
  }

  @Test func shortMemoryUnloadsAndTheNextPromptLoadsAgain() async throws {
    let loader = FakeLoader { FakeEngine(blocks: true) }
    let model = ChatModel(load: loader.loader)
    await model.select(.fake())
    model.prompt = "Go on"
    let sending = Task { await model.send() }
    try await eventually { model.turns.first?.answer == "Hello" }
    await model.memoryWarning()
    await sending.value
    #expect(model.phase == .unloaded && model.notice?.contains("Memory") == true)
    #expect(model.turns[0].answer == "Hello" && model.turns[0].note?.contains("memory") == true)
    model.prompt = "Again"
    #expect(model.canSend)
    let again = Task { await model.send() }
    try await eventually { model.turns.count == 2 && model.turns[1].answer == "Hello" }
    #expect(loader.loads.count == 2 && model.turns[0].answer == "Hello")
    model.stop()
    await again.value
    await ChatModel(load: loader.loader).memoryWarning()  // without a model: nothing
  }

  @Test func heatIsShownAndCriticalHeatEndsTheAnswer() async throws {
    let model = await ready(FakeEngine(blocks: true))
    model.thermalChanged(to: .fair)
    #expect(model.notice == nil)
    model.prompt = "Go on"
    let sending = Task { await model.send() }
    try await eventually { model.turns.first?.answer == "Hello" }
    model.thermalChanged(to: .serious)
    #expect(model.isGenerating && model.notice?.contains("hot") == true)
    model.thermalChanged(to: .critical)
    await sending.value
    #expect(model.turns[0].note?.contains("too hot") == true && model.thermal == .critical)
  }

  @Test func leavingTheScreenEndsTheAnswer() async throws {
    let model = await ready(FakeEngine(blocks: true))
    model.prompt = "Go on"
    let sending = Task { await model.send() }
    try await eventually { model.turns.first?.answer == "Hello" }
    model.enteredBackground()
    await sending.value
    #expect(model.turns[0].note == "Stopped when the app left the screen.")
  }
}

final class Attempts: @unchecked Sendable {
  private let lock = NSLock()
  private var count = 0

  func next() -> Int {
    lock.withLock {
      count += 1
      return count
    }
  }
}
