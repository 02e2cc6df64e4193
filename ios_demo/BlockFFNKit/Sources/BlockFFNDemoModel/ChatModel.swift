import BlockFFNKit
import Foundation
import Observation

/// State and actions of the chat screen. The view only shows it, so that all of it runs without a phone.
@MainActor @Observable public final class ChatModel {
  public enum Phase: Equatable, Sendable {
    case noModel
    case loading(String)
    case ready
    case generating
    /// The system ran short of memory, so the program was let go; the next prompt loads it again.
    case unloaded
    case failed(String)
  }

  public struct Turn: Identifiable, Equatable, Sendable {
    public let id: Int
    public let prompt: String
    public internal(set) var answer = ""
    public internal(set) var figures: Figures?
    /// Why the answer ended early, or did not come.
    public internal(set) var note: String?
  }

  public private(set) var phase = Phase.noModel
  public private(set) var models: [ModelEntry] = []
  public private(set) var selected: ModelEntry?
  public private(set) var turns: [Turn] = []
  public private(set) var thermal = ThermalLevel.nominal
  /// About the device or the last action, until it is dismissed.
  public var notice: String?
  public var prompt = ""
  public private(set) var settings = DemoSettings()
  /// Where the loaded program runs; nil while none is loaded.
  public private(set) var placement: Placement?

  private let load: EngineLoader
  private var engine: (any ChatEngine)?
  private var loads = 0
  private var running: Task<Void, Never>?
  private var whyStopped: String?
  private let memory: DeviceMemory
  private var leftWhileLoading = false
  private var gpuFailed = false

  /// `defaults` keep the chosen device.
  public init(load: @escaping EngineLoader = loadEngine, defaults: UserDefaults = .standard) {
    self.load = load
    memory = DeviceMemory(defaults: defaults)
    if memory.isLoadingForGPU {
      memory.isLoadingForGPU = false
      memory.device = .cpu
      notice =
        "The app ended while it loaded a model for the GPU, so the processor is used. Settings offer the GPU again."
    }
    settings.device = memory.device
  }

  // MARK: Models

  /// Adds what the folders hold, keeps what is already known, and selects the first if nothing is selected.
  public func addModels(from folders: [URL]) async {
    await add(folders.flatMap { ModelLibrary.entries(in: $0) })
  }

  /// A folder from the Files app; says so if it is no model.
  public func importFolder(_ folder: URL) async {
    do {
      let found = try ModelLibrary.entries(ofFolder: folder)
      await add(found)
      if let first = found.first { await select(first) }
    } catch {
      notice = error.localizedDescription
    }
  }

  private func add(_ found: [ModelEntry]) async {
    models += found.filter { !models.contains($0) }
    if selected == nil, let first = models.first { await select(first) }
  }

  public func select(_ entry: ModelEntry) async {
    selected = entry
    if settings.speculation.needsDraftHead, entry.draftHead == nil { settings.speculation = .ngram }
    await reload(forgetting: true)
  }

  public func isAvailable(_ speculation: Speculation) -> Bool {
    !speculation.needsDraftHead || selected?.draftHead != nil
  }

  /// Takes over new settings, for the next prompt.
  public func apply(_ new: DemoSettings) {
    var new = new
    new.device = settings.device
    if !isAvailable(new.speculation) { new.speculation = settings.speculation }
    settings = new
  }

  /// Takes a device and loads the program for it. The answers stay.
  public func choose(_ device: ComputeDevice) async {
    guard device != settings.device else { return }
    settings.device = device
    memory.device = device
    if phase != .unloaded { await reload() }
  }

  /// All experts are computed on the processor alone.
  public var canRunDense: Bool { placement?.isGPU != true }

  /// Ends what runs, then loads what is selected; a later call takes over from an earlier one.
  private func reload(forgetting: Bool = false) async {
    guard let entry = selected else { return }
    loads += 1
    let mine = loads
    stop(because: nil)
    await running?.value
    guard mine == loads else { return }
    if forgetting { turns = [] }
    letGo(.loading(entry.name))
    let device = settings.device
    leftWhileLoading = false
    memory.isLoadingForGPU = device != .cpu
    let result: Result<any ChatEngine, any Error>
    do { result = .success(try await load(entry, device)) } catch { result = .failure(error) }
    guard mine == loads else { return }
    memory.isLoadingForGPU = false
    switch result {
    case .success(let loaded):
      engine = loaded
      let placement = Placement(loaded.device)
      self.placement = placement
      phase = .ready
      if device == .gpu, !placement.isGPU {
        notice = "Runs on the processor: \(placement.reason ?? "there is no GPU")."
      }
    case .failure(let error):
      phase = .failed(error.localizedDescription)
    }
  }

  private func letGo(_ next: Phase) {
    engine = nil
    placement = nil
    phase = next
  }

  /// After a failure, or when memory had run short.
  public func retry() async { await reload() }

  // MARK: Generation

  public var canSend: Bool {
    guard !prompt.trimmingCharacters(in: .whitespacesAndNewlines).isEmpty else { return false }
    return phase == .ready || phase == .unloaded
  }

  public var isGenerating: Bool { phase == .generating }

  /// Generates an answer to `prompt`; returns when it is there.
  public func send() async {
    guard canSend else { return }
    if phase == .unloaded { await reload() }
    guard phase == .ready, let engine else { return }
    let text = prompt
    prompt = ""
    notice = nil
    whyStopped = nil
    phase = .generating
    turns.append(Turn(id: turns.count, prompt: text))
    let task = Task { await receive(stream(engine, text), kernels: engine.info.kernels) }
    running = task
    await task.value
    if running == task { running = nil }
    guard phase == .generating else { return }
    if gpuFailed {
      gpuFailed = false
      letGo(.unloaded)
      notice = "The GPU failed. The next prompt loads the program again."
    } else {
      phase = .ready
    }
  }

  private func stream(_ engine: any ChatEngine, _ text: String) -> GenerationStream<String> {
    var settings = settings
    settings.dense = settings.dense && canRunDense
    guard engine.info.chatTemplate != nil else {
      return engine.generate(text, options: settings.options, stop: [])
    }
    var messages: [ChatMessage] = []
    for turn in turns.dropLast() where !turn.answer.isEmpty {
      messages += [.init(.user, turn.prompt), .init(.assistant, turn.answer)]
    }
    return engine.chat(messages + [.init(.user, text)], options: settings.options, stop: [])
  }

  private func receive(_ events: GenerationStream<String>, kernels: String) async {
    let last = turns.count - 1
    do {
      for try await event in events {
        switch event {
        case .piece(let piece): turns[last].answer += piece
        case .finished(let stats):
          turns[last].figures = Figures(stats, kernels: kernels, gpu: placement.flatMap { $0.isGPU ? $0.title : nil })
          turns[last].note = whyStopped ?? stats.stop.note
        }
      }
    } catch {
      turns[last].note = error.localizedDescription
      gpuFailed = placement?.isGPU == true && (error as? EngineError)?.code == .failed
    }
  }

  /// The stop button. The answer so far stays.
  public func stop() { stop(because: "Stopped.") }

  private func stop(because reason: String?) {
    guard phase == .generating else { return }
    whyStopped = reason
    engine?.stop()
  }

  // MARK: The device

  /// The system asks for memory: ends the answer and lets the program go, caches and all.
  public func memoryWarning() async {
    guard engine != nil else { return }
    loads += 1
    let mine = loads
    stop(because: "Stopped: the device ran short of memory.")
    await running?.value
    guard mine == loads else { return }
    letGo(.unloaded)
    notice = "Memory ran short, so the model was unloaded. The next prompt loads it again."
  }

  public func thermalChanged(to level: ThermalLevel) {
    thermal = level
    switch level {
    case .nominal, .fair: break
    case .serious: notice = "The device is hot: the processor is slowed down, and so are the figures."
    case .critical:
      stop(because: "Stopped: the device is too hot.")
      notice = "The device is too hot. Let it cool down before the next prompt."
    }
  }

  /// The app is about to leave the screen, perhaps: iOS refuses what the GPU is asked for after that, so it ends now.
  public func becameInactive() {
    if placement?.isGPU == true { stop(because: "Stopped: the GPU may be used on the screen only.") }
  }

  /// Out of sight nothing may run on.
  public func enteredBackground() {
    stop(because: "Stopped when the app left the screen.")
    if case .loading = phase, settings.device != .cpu { leftWhileLoading = true }
  }

  /// On the screen again. What a GPU was tested or timed for out of sight counts for nothing.
  public func becameActive() async {
    if leftWhileLoading { await reload() }
  }
}

extension GenerationStats.Stop {
  /// For endings that a reader would not expect.
  fileprivate var note: String? {
    switch self {
    case .none, .endOfText, .stopString, .callback: return nil
    case .maxTokens: return "Ended after the number of tokens that the settings allow."
    case .cancelled: return "Stopped."
    case .contextFull: return "Ended: the model's context is full."
    }
  }
}
