import BlockFFNKit
import Foundation

/// The line of figures under an answer.
public struct Figures: Equatable, Sendable {
  /// For example "TTFT 12 ms · 85.3 tok/s · 2.41 tok/cycle · 19 % experts · 312 MB · i8mm".
  public let line: String
  /// The same for VoiceOver, in words.
  public let spoken: String

  public init(_ stats: GenerationStats, kernels: String, gpu: String? = nil) {
    var short: [String] = []
    var words: [String] = []
    func add(_ brief: String, _ spoken: String) {
      short.append(brief)
      words.append(spoken)
    }
    if stats.timeToFirstTokenMs > 0 {
      let ms = number(stats.timeToFirstTokenMs, 0)
      add("TTFT \(ms) ms", "first token after \(ms) milliseconds")
    }
    if let speed = stats.decodeTokensPerSecond {
      add("\(number(speed, 1)) tok/s", "\(number(speed, 1)) tokens per second")
    }
    if let length = stats.tokensPerCycle {
      add("\(number(length, 2)) tok/cycle", "\(number(length, 2)) tokens per cycle")
    }
    if let share = stats.expertsRead {
      add("\(number(share * 100, 0)) % experts", "\(number(share * 100, 0)) percent of the experts read")
    }
    if stats.peakResidentBytes > 0 {
      let megabytes = number(Double(stats.peakResidentBytes) / 1e6, 0)
      add("\(megabytes) MB", "\(megabytes) megabytes of memory at most")
    }
    if let gpu {
      add(gpu, "on the GPU \(gpu)")
    } else {
      add(kernels, "kernels \(kernels)")
    }
    line = short.joined(separator: " · ")
    spoken = words.joined(separator: ", ")
  }
}

func number(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }
