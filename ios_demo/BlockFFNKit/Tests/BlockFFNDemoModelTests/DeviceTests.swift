import BlockFFNKit
import Foundation
import Testing

@testable import BlockFFNDemoModel

/// The switch between processor and GPU.
@MainActor @Suite struct DeviceTests {
  /// Defaults of a test's own.
  private let name = UUID().uuidString
  private var defaults: UserDefaults { UserDefaults(suiteName: name)! }

  private func ready(_ loader: FakeLoader) async -> ChatModel {
    let model = ChatModel(load: loader.loader, defaults: defaults)
    await model.select(.fake())
    return model
  }

  @Test func whatTheEngineSaysIsReadRight() {
    let plain = Placement("cpu")
    #expect(!plain.isGPU && plain.title == "Processor" && plain.reason == nil)
    let refused = Placement("cpu: the GPU has not enough memory")
    #expect(!refused.isGPU && refused.title == "Processor" && refused.reason == "the GPU has not enough memory")
    let gpu = Placement("gpu Apple A17 Pro GPU")
    #expect(gpu.isGPU && gpu.title == "Apple A17 Pro GPU" && gpu.reason == nil)
    let times = "(ms for 1, 8, 32, 64 tokens: cpu 9.00 9.00 9.00 9.00, gpu 1.00 2.00 3.00 4.00)"
    let chosen = Placement("gpu Apple A17 \(times)")
    #expect(chosen.isGPU && chosen.title == "Apple A17" && chosen.reason == times)
  }

  @Test func anotherDeviceLoadsTheProgramAgainAndIsRemembered() async {
    let loader = FakeLoader { FakeEngine(device: "gpu Apple A17") }
    let model = await ready(loader)
    model.prompt = "x"
    await model.send()
    await model.choose(.gpu)
    await model.choose(.gpu)  // it is already
    #expect(loader.loadedFor == [.cpu, .gpu] && model.phase == .ready && model.turns.count == 1)
    #expect(model.placement == Placement("gpu Apple A17") && model.notice == nil)
    #expect(ChatModel(load: loader.loader, defaults: defaults).settings.device == .gpu)
    await model.choose(.auto)
    var settings = model.settings
    settings.device = .cpu  // the other switches leave it alone
    settings.maxTokens = 9
    model.apply(settings)
    #expect(model.settings.device == .auto && model.settings.maxTokens == 9 && loader.loadedFor.count == 3)
  }

  @Test func aGPUThatIsNotUsedIsSaidWithTheReason() async {
    let model = await ready(FakeLoader { FakeEngine(device: "cpu: its self-test failed") })
    #expect(model.notice == nil)
    await model.choose(.gpu)
    #expect(model.notice == "Runs on the processor: its self-test failed.")
    #expect(model.placement?.reason == "its self-test failed" && model.canRunDense)
  }

  @Test func denseIsForTheProcessorAndFiguresNameTheGPU() async {
    let engine = FakeEngine(device: "gpu Apple A17")
    let model = await ready(FakeLoader { engine })
    var settings = model.settings
    settings.dense = true
    model.apply(settings)
    model.prompt = "x"
    await model.send()
    #expect(!model.canRunDense && engine.calls.map(\.options.experts) == [.active])
    #expect(model.turns[0].figures?.line.hasSuffix("Apple A17") == true)
    #expect(model.turns[0].figures?.spoken.hasSuffix("on the GPU Apple A17") == true)
    #expect(model.settings.dense)  // for the processor, later
  }

  @Test func anAppThatEndedWhileLoadingForTheGPUStartsOnTheProcessor() async {
    var loading: ChatModel?
    let name = name
    let seen = Attempts()
    let model = ChatModel(
      load: { _, device in
        // What a start finds whose predecessor ended here.
        let isLoading = await MainActor.run {
          DeviceMemory(defaults: UserDefaults(suiteName: name)!).isLoadingForGPU
        }
        if device == .gpu, isLoading { _ = seen.next() }
        return FakeEngine(device: "gpu x")
      }, defaults: defaults)
    await model.select(.fake())
    await model.choose(.gpu)
    #expect(seen.next() == 2 && !DeviceMemory(defaults: defaults).isLoadingForGPU)
    DeviceMemory(defaults: defaults).isLoadingForGPU = true
    loading = ChatModel(load: FakeLoader { FakeEngine() }.loader, defaults: defaults)
    #expect(loading?.settings.device == .cpu && loading?.notice?.contains("GPU") == true)
    loading = ChatModel(load: FakeLoader { FakeEngine() }.loader, defaults: defaults)
    #expect(loading?.settings.device == .cpu && loading?.notice == nil)
  }

  @Test(arguments: ["cpu", "gpu x"])
  func theGPUStopsBeforeTheAppLeavesTheScreen(_ device: String) async throws {
    let model = await ready(FakeLoader { FakeEngine(blocks: true, device: device) })
    model.prompt = "Go on"
    let sending = Task { await model.send() }
    try await eventually { model.turns.first?.answer == "Hello" }
    model.becameInactive()
    if device == "cpu" {
      #expect(model.isGenerating)
      model.stop()
    }
    await sending.value
    #expect(model.turns[0].note?.contains("GPU") == (device != "cpu") && model.phase == .ready)
  }

  @Test func aLoadForTheGPUThatTheScreenDidNotSeeIsDoneAgain() async throws {
    let gate = Attempts()
    let loader = FakeLoader { FakeEngine() }
    let model = ChatModel(
      load: { entry, device in
        if gate.next() == 2 { try await Task.sleep(for: .milliseconds(200)) }
        return try await loader.loader(entry, device)
      }, defaults: defaults)
    await model.select(.fake())
    let choosing = Task { await model.choose(.gpu) }
    try await eventually { model.phase == .loading("tiny, int8") }
    model.enteredBackground()
    await choosing.value
    await model.becameActive()
    await model.becameActive()
    #expect(loader.loadedFor == [.cpu, .gpu, .gpu] && model.phase == .ready)
  }

  @Test func aGPUThatFailsLetsTheProgramGo() async {
    let failure = EngineError(.failed, "the GPU was lost, and the context with it")
    let loader = FakeLoader { FakeEngine(failure: failure, device: "gpu x") }
    let model = await ready(loader)
    model.prompt = "x"
    await model.send()
    #expect(model.phase == .unloaded && model.turns[0].note == failure.message && model.placement == nil)
    model.prompt = "y"
    #expect(model.canSend)
    await model.send()
    #expect(loader.loads.count == 2)
  }
}
