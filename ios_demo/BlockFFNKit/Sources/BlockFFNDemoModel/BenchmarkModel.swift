import BlockFFNKit
import Foundation
import Observation

/// State and actions of the benchmark screen: all experts and the active ones,
/// with every way to speculate, in turns.
@MainActor @Observable public final class BenchmarkModel {
  public enum Phase: Equatable, Sendable {
    case idle
    /// Share of the work that is done, and what runs.
    case running(Double, String)
    case finished(BenchmarkReport)
    case stopped
    case failed(String)
  }

  public private(set) var phase = Phase.idle
  public var prompt = "To install the package, run the following command:"
  public var maxTokens = 128
  public var rounds = 3

  private let load: EngineLoader
  private let device: @MainActor () -> DeviceSnapshot
  private var engine: (any ChatEngine)?
  private var stopped: Phase?

  public init(load: @escaping EngineLoader = loadEngine, device: @escaping @MainActor () -> DeviceSnapshot) {
    self.load = load
    self.device = device
  }

  public var isRunning: Bool {
    if case .running = phase { return true }
    return false
  }

  /// What a model can be measured with; the first, dense without speculation, is what the others are compared to.
  public static func cases(of entry: ModelEntry) -> [(dense: Bool, speculation: Speculation)] {
    let speculations = Speculation.allCases.filter { !$0.needsDraftHead || entry.draftHead != nil }
    return [true, false].flatMap { dense in speculations.map { (dense, $0) } }
  }

  /// Measures a model; returns when it is done. One round warms up and is not counted.
  public func run(_ entry: ModelEntry) async {
    guard !isRunning else { return }
    stopped = nil
    phase = .running(0, "Loading")
    do {
      phase = .finished(try await measure(entry))
    } catch is CancellationError {
      phase = stopped ?? .stopped
    } catch {
      phase = .failed(error.localizedDescription)
    }
    engine = nil
  }

  public func stop() { stop(as: .stopped) }

  public func memoryWarning() { stop(as: .failed("Stopped: the device ran short of memory.")) }

  public func thermalChanged(to level: ThermalLevel) {
    if level == .critical { stop(as: .failed("Stopped: the device is too hot. Let it cool down first.")) }
  }

  public func enteredBackground() { stop(as: .stopped) }

  private func stop(as phase: Phase) {
    guard isRunning else { return }
    stopped = phase
    engine?.stop()
  }

  private func measure(_ entry: ModelEntry) async throws -> BenchmarkReport {
    let cases = Self.cases(of: entry)
    let engine = try await load(entry, .cpu)  // dense runs on the processor alone
    self.engine = engine
    try checkStopped()
    let before = device()
    var rows = cases.map {
      BenchmarkReport.Row(
        dense: $0.dense, speculation: $0.speculation, tokensPerSecond: [], timeToFirstTokenMs: [],
        peakResidentBytes: 0)
    }
    var texts: Set<String> = []
    let total = Double((rounds + 1) * rows.count)
    for round in 0...rounds {
      for index in rows.indices {
        let done = Double(round * rows.count + index) / total
        phase = .running(done, round == 0 ? "Warming up" : "\(rows[index].title), round \(round) of \(rounds)")
        let (text, stats) = try await generate(engine, rows[index])
        texts.insert(text)
        if round > 0 { rows[index].add(stats) }
      }
    }
    return BenchmarkReport(
      date: Date(), model: entry.name, programBytes: entry.bytes, kernels: engine.info.kernels,
      prompt: prompt, maxTokens: maxTokens, rounds: rounds, before: before, after: device(), rows: rows,
      sameText: texts.count == 1)
  }

  private func generate(
    _ engine: any ChatEngine, _ row: BenchmarkReport.Row
  ) async throws -> (String, GenerationStats) {
    var settings = DemoSettings()
    settings.dense = row.dense
    settings.speculation = row.speculation
    settings.maxTokens = maxTokens
    let (pieces, stats) = try await engine.generate(prompt, options: settings.options, stop: []).collect()
    try checkStopped()
    guard let stats else { throw CancellationError() }
    return (pieces.joined(), stats)
  }

  private func checkStopped() throws {
    if stopped != nil || Task.isCancelled { throw CancellationError() }
  }
}

extension BenchmarkReport.Row {
  fileprivate mutating func add(_ stats: GenerationStats) {
    if let speed = stats.decodeTokensPerSecond { tokensPerSecond.append(speed) }
    timeToFirstTokenMs.append(stats.timeToFirstTokenMs)
    tokensPerCycle = stats.tokensPerCycle
    expertsRead = stats.expertsRead
    peakResidentBytes = stats.peakResidentBytes
  }
}
