import CBlockFFN

/// How to generate. The defaults are greedy, and draft where it is measured to be faster.
///
/// Greedy output is the same, token for token, with and without speculation; so is sampled output with
/// one seed, unless the drafter itself draws its proposals.
public struct GenerationOptions: Sendable, Equatable {
  public enum Mode: Sendable, Equatable {
    /// One token a cycle: no speculation.
    case plain
    /// Always verify what the drafter proposes.
    case speculative
    /// Choose the chunk by measured times and acceptance; may be plain for a while.
    case automatic
  }

  /// Who proposes tokens.
  public enum Drafter: Sendable, Equatable {
    /// N-gram look-up, together with the draft head if one is loaded.
    case best
    /// What followed the end of the text earlier in it.
    case ngram
    /// The draft head alone.
    case head
  }

  /// Which experts a chunk reads and computes. The output is the same to the bit, so one engine can run
  /// dense beside sparse without computing its context again.
  public enum Experts: Sendable, Equatable {
    /// Those that its tokens use.
    case active
    /// All of them: what a dense model costs, for comparisons.
    case all
  }

  /// New tokens, at least 1.
  public var maxTokens = 256
  public var mode = Mode.automatic
  /// Most proposed tokens of a chunk, 1 to 63.
  public var draftTokens = 31
  /// Most continuations proposed for one token; 1 is a chain, more a tree.
  public var draftWidth = 3
  /// Most calls of a draft head in one cycle, which is how deep its tree is.
  public var draftDepth = 6
  public var drafter = Drafter.best
  public var experts = Experts.active
  /// 0 is greedy.
  public var temperature = 0.0
  /// 0 is off.
  public var topK = 0
  /// 1 is off.
  public var topP = 1.0
  /// 1 is off.
  public var repetitionPenalty = 1.0
  public var seed: UInt64 = 0

  public init() {}

  var native: blockffn_runner_options {
    var options = blockffn_runner_options()
    blockffn_runner_default_options(&options)
    options.max_tokens = Int32(clamping: maxTokens)
    switch mode {
    case .plain: options.mode = Int32(BLOCKFFN_PLAIN.rawValue)
    case .speculative: options.mode = Int32(BLOCKFFN_SPEC.rawValue)
    case .automatic: options.mode = Int32(BLOCKFFN_AUTO.rawValue)
    }
    switch drafter {
    case .best: options.drafter = Int32(BLOCKFFN_DRAFT_BEST.rawValue)
    case .ngram: options.drafter = Int32(BLOCKFFN_DRAFT_NGRAM.rawValue)
    case .head: options.drafter = Int32(BLOCKFFN_DRAFT_HEAD.rawValue)
    }
    switch experts {
    case .active: options.experts = Int32(BLOCKFFN_EXPERTS_ACTIVE.rawValue)
    case .all: options.experts = Int32(BLOCKFFN_EXPERTS_ALL.rawValue)
    }
    options.draft_depth = Int32(clamping: draftDepth)
    options.draft_tokens = Int32(clamping: draftTokens)
    options.draft_width = Int32(clamping: draftWidth)
    options.temperature = temperature
    options.top_k = Int32(clamping: topK)
    options.top_p = topP
    options.repetition_penalty = repetitionPenalty
    options.seed = seed
    return options
  }
}
