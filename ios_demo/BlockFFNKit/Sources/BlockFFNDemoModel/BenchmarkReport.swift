import Foundation

/// What the benchmark screen measured; the JSON that it shares. Speeds in tokens per second while decoding,
/// times in milliseconds, shares in [0, 1].
public struct BenchmarkReport: Codable, Equatable, Sendable {
  public struct Row: Codable, Equatable, Sendable, Identifiable {
    /// All experts were read, not only the active ones.
    public var dense: Bool
    public var speculation: Speculation
    /// One value a round, warm-up left out.
    public var tokensPerSecond: [Double]
    public var timeToFirstTokenMs: [Double]
    /// Of the last round.
    public var tokensPerCycle: Double?
    public var expertsRead: Double?
    /// Of the process until then, which only grows.
    public var peakResidentBytes: Int64

    public var id: String { "\(dense)-\(speculation.rawValue)" }
    public var title: String { "\(dense ? "Dense" : "Sparse"), \(speculation.title.lowercased())" }
    public var median: Double { BlockFFNDemoModel.median(tokensPerSecond) ?? 0 }
    public var slowest: Double { tokensPerSecond.min() ?? 0 }
    public var fastest: Double { tokensPerSecond.max() ?? 0 }
  }

  public var format = 1
  public var date: Date
  public var model: String
  public var programBytes: Int64
  public var kernels: String
  public var prompt: String
  public var maxTokens: Int
  public var rounds: Int
  public var before: DeviceSnapshot
  public var after: DeviceSnapshot
  public var rows: [Row]
  /// Whether every row gave the same text, which greedy decoding promises.
  public var sameText: Bool

  /// Throttling makes the rows incomparable.
  public var isTrustworthy: Bool { max(before.thermal, after.thermal) < .serious && !before.lowPowerMode }

  /// Ratio of a row's median to the first row's.
  public func speedup(_ row: Row) -> Double? {
    guard let base = rows.first?.median, base > 0 else { return nil }
    return row.median / base
  }

  public func json() throws -> Data {
    let encoder = JSONEncoder()
    encoder.dateEncodingStrategy = .iso8601
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(self)
  }

  /// Writes the JSON for the share sheet and returns the file.
  public func write(to folder: URL) throws -> URL {
    let safe = model.map { $0.isLetter || $0.isNumber ? $0 : "-" }
    let file = folder.appendingPathComponent("blockffn-benchmark-\(String(safe)).json")
    try json().write(to: file, options: .atomic)
    return file
  }
}

func median(_ values: [Double]) -> Double? {
  guard !values.isEmpty else { return nil }
  let sorted = values.sorted()
  let middle = sorted.count / 2
  return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
