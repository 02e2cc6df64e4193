import BlockFFNDemoModel
import UIKit

/// What the system says about this device.
@MainActor enum Device {
  static var thermalLevel: ThermalLevel {
    switch ProcessInfo.processInfo.thermalState {
    case .nominal: return .nominal
    case .fair: return .fair
    case .serious: return .serious
    case .critical: return .critical
    @unknown default: return .nominal
    }
  }

  static func snapshot() -> DeviceSnapshot {
    UIDevice.current.isBatteryMonitoringEnabled = true
    let battery = Double(UIDevice.current.batteryLevel)  // -1: unknown, as in the simulator
    return DeviceSnapshot(
      model: machine,
      system: "\(UIDevice.current.systemName) \(UIDevice.current.systemVersion)",
      thermal: thermalLevel,
      battery: battery >= 0 ? battery : nil,
      lowPowerMode: ProcessInfo.processInfo.isLowPowerModeEnabled)
  }

  /// For example "iPhone16,1".
  private static var machine: String {
    var system = utsname()
    uname(&system)
    return withUnsafeBytes(of: system.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }
}
