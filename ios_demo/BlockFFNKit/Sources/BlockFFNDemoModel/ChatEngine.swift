import BlockFFNKit
import Foundation

/// What the view models need of an engine, so that tests can stand in for it.
public protocol ChatEngine: Sendable {
  var info: ModelInfo { get }
  /// As `Engine.device`.
  var device: String { get }
  func generate(_ prompt: String, options: GenerationOptions, stop: [String]) -> GenerationStream<String>
  func chat(_ messages: [ChatMessage], options: GenerationOptions, stop: [String]) -> GenerationStream<String>
  func stop()
}

extension Engine: ChatEngine {}

/// Loads a model's program, with its draft head, for a device.
public typealias EngineLoader =
  @Sendable (_ entry: ModelEntry, _ device: ComputeDevice) async throws -> any ChatEngine

/// The real one.
public let loadEngine: EngineLoader = { entry, device in
  try await Engine.load(
    program: .url(entry.program), tokenizer: .url(entry.tokenizer),
    tokenizerConfig: entry.tokenizerConfig.map { .url($0) }, draftHead: entry.draftHead.map { .url($0) },
    on: device)
}

/// How hot the device is; the same steps as ProcessInfo.ThermalState, which Linux lacks.
public enum ThermalLevel: Int, Codable, Sendable, Comparable {
  case nominal, fair, serious, critical

  public var title: String { ["nominal", "fair", "serious", "critical"][rawValue] }

  public static func < (a: ThermalLevel, b: ThermalLevel) -> Bool { a.rawValue < b.rawValue }
}

/// The device, at the moment of a measurement.
public struct DeviceSnapshot: Codable, Sendable, Equatable {
  public var model: String
  public var system: String
  public var thermal: ThermalLevel
  /// In [0, 1]; nil if unknown.
  public var battery: Double?
  public var lowPowerMode: Bool

  public init(
    model: String, system: String, thermal: ThermalLevel, battery: Double? = nil, lowPowerMode: Bool = false
  ) {
    self.model = model
    self.system = system
    self.thermal = thermal
    self.battery = battery
    self.lowPowerMode = lowPowerMode
  }
}
