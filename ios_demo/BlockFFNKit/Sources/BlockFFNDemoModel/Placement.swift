import BlockFFNKit
import Foundation

/// Where a program really runs, read from what its engine says of itself: "cpu", "gpu NAME", or "cpu: " and why the
/// GPU is not used; after an automatic choice also the times that decided.
public struct Placement: Equatable, Sendable {
  public let isGPU: Bool
  /// "Processor", or the GPU's name.
  public let title: String
  /// Why it is the processor although the GPU was asked for, or what an automatic choice went by.
  public let reason: String?

  public init(_ device: String) {
    isGPU = device.hasPrefix("gpu ")
    guard isGPU else {
      title = "Processor"
      reason = device.hasPrefix("cpu: ") ? String(device.dropFirst("cpu: ".count)) : nil
      return
    }
    let name = device.dropFirst("gpu ".count)
    let times = name.range(of: " (ms for ")?.lowerBound
    title = String(name[..<(times ?? name.endIndex)])
    reason = times.map { String(name[$0...].dropFirst()) }
  }
}

extension ComputeDevice: Identifiable {
  public var id: String { rawValue }

  public var title: String {
    switch self {
    case .cpu: return "Processor"
    case .gpu: return "GPU"
    case .auto: return "Automatic"
    }
  }
}

/// The chosen device, which outlives the app; and whether the app ended in the middle of loading for the GPU, so that a
/// GPU that ends the app cannot do so at every start.
@MainActor struct DeviceMemory {
  let defaults: UserDefaults

  var device: ComputeDevice {
    get { defaults.string(forKey: "device").flatMap(ComputeDevice.init) ?? .cpu }
    nonmutating set { defaults.set(newValue.rawValue, forKey: "device") }
  }

  var isLoadingForGPU: Bool {
    get { defaults.bool(forKey: "isLoadingForGPU") }
    nonmutating set { defaults.set(newValue, forKey: "isLoadingForGPU") }
  }
}
