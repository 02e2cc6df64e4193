import BlockFFNKit

/// How the next tokens are proposed; the text does not depend on it.
public enum Speculation: String, CaseIterable, Codable, Sendable, Identifiable {
  case off, ngram, chain, tree

  public var id: String { rawValue }

  public var title: String {
    switch self {
    case .off: return "Off"
    case .ngram: return "N-gram"
    case .chain: return "Chain"
    case .tree: return "Tree"
    }
  }

  /// Chain and tree are grown by the draft head.
  public var needsDraftHead: Bool { self == .chain || self == .tree }
}

/// What the switches of the demo say.
public struct DemoSettings: Codable, Equatable, Sendable {
  /// Another one needs the program loaded again: `ChatModel.choose` does both.
  public var device = ComputeDevice.cpu
  /// Read and compute all experts, as a dense model does; the text stays the same.
  public var dense = false
  public var speculation = Speculation.ngram
  public var maxTokens = 256
  /// 0 is greedy.
  public var temperature = 0.0
  public var topP = 0.95
  public var seed: UInt64 = 1

  public init() {}

  public var options: GenerationOptions {
    var options = GenerationOptions()
    options.maxTokens = maxTokens
    options.temperature = temperature
    options.topP = temperature > 0 ? topP : 1
    options.seed = seed
    options.speculate(speculation)
    options.experts = dense ? .all : .active
    return options
  }
}

extension GenerationOptions {
  /// Drafting stays subject to the runner's cost model, which leaves it out where it is slower.
  mutating func speculate(_ speculation: Speculation) {
    mode = speculation == .off ? .plain : .automatic
    drafter = speculation.needsDraftHead ? .head : .ngram
    draftWidth = speculation == .chain ? 1 : 3
  }
}
