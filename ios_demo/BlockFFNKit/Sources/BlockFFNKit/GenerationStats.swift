import CBlockFFN

/// What one generation did. Times in milliseconds, shares in [0, 1].
public struct GenerationStats: Sendable, Equatable, Codable {
  public enum Stop: Int32, Sendable, Codable {
    case none = 0
    case endOfText = 1
    case maxTokens = 2
    case callback = 3
    case cancelled = 4
    case contextFull = 5
    case stopString = 6
  }

  public var stop = Stop.none
  public var promptTokens = 0
  /// Of the prompt: what the context already held, for example earlier turns.
  public var reusedTokens = 0
  public var generatedTokens = 0
  /// Decoding only: cycles of draft and verification, proposals verified and accepted.
  public var cycles = 0
  public var draftedTokens = 0
  public var acceptedTokens = 0
  /// Until the first token, prefill included.
  public var timeToFirstTokenMs = 0.0
  public var prefillMs = 0.0
  /// After the first token, without calibration.
  public var decodeMs = 0.0
  public var draftMs = 0.0
  public var verifyMs = 0.0
  /// Measuring chunk times, in the first run of automatic mode.
  public var calibrateMs = 0.0
  /// Share of the experts' weights that decoding read; nil for a model without experts.
  public var expertsRead: Double?
  public var prefillExpertsRead: Double?
  /// Of the process, mapped files included.
  public var peakResidentBytes: Int64 = 0

  public init() {}

  public var decodeTokensPerSecond: Double? {
    generatedTokens > 1 && decodeMs > 0 ? Double(generatedTokens - 1) / decodeMs * 1e3 : nil
  }
  public var prefillTokensPerSecond: Double? {
    promptTokens > reusedTokens && prefillMs > 0
      ? Double(promptTokens - reusedTokens) / prefillMs * 1e3 : nil
  }
  /// Acceptance length: new tokens per cycle. Plain decoding has 1.
  public var tokensPerCycle: Double? {
    cycles > 0 ? Double(cycles + acceptedTokens) / Double(cycles) : nil
  }

  init(_ raw: blockffn_runner_stats) {
    stop = Stop(rawValue: raw.stopped_by) ?? .none
    promptTokens = Int(raw.prompt_tokens)
    reusedTokens = Int(raw.reused_tokens)
    generatedTokens = Int(raw.generated_tokens)
    cycles = Int(raw.cycles)
    draftedTokens = Int(raw.drafted_tokens)
    acceptedTokens = Int(raw.accepted_tokens)
    timeToFirstTokenMs = raw.ttft_ms
    prefillMs = raw.prefill_ms
    decodeMs = raw.decode_ms
    draftMs = raw.draft_ms
    verifyMs = raw.verify_ms
    calibrateMs = raw.calibrate_ms
    expertsRead = share(sum(of: raw.experts_read), of: sum(of: raw.experts_total))
    prefillExpertsRead = share(raw.prefill_experts_read, of: raw.prefill_experts_total)
    peakResidentBytes = raw.peak_rss_bytes
  }
}

private func share(_ part: Int64, of whole: Int64) -> Double? {
  whole > 0 ? Double(part) / Double(whole) : nil
}

/// Sum of a C array of int64_t, which Swift sees as a tuple.
private func sum<Array>(of array: Array) -> Int64 {
  withUnsafeBytes(of: array) { $0.bindMemory(to: Int64.self).reduce(0, +) }
}
