import CBlockFFN

/// What a generation reports: pieces as they are decided, then once how it went.
public enum GenerationEvent<Piece: Sendable>: Sendable {
  /// Some whole characters of text, or one token.
  case piece(Piece)
  /// The last event.
  case finished(GenerationStats)
}

public typealias GenerationStream<Piece: Sendable> = AsyncThrowingStream<
  GenerationEvent<Piece>, any Error
>

extension AsyncThrowingStream where Failure == any Error {
  /// All pieces, and the statistics. Nil statistics: this task was cancelled.
  public func collect<Piece>() async throws -> (pieces: [Piece], stats: GenerationStats?)
  where Element == GenerationEvent<Piece> {
    var pieces: [Piece] = []
    var stats: GenerationStats?
    for try await event in self {
      switch event {
      case .piece(let piece): pieces.append(piece)
      case .finished(let final): stats = final
      }
    }
    return (pieces, stats)
  }
}

/// A turn of a conversation. Special tokens in its content are plain text.
public struct ChatMessage: Sendable, Equatable, Codable {
  public enum Role: String, Sendable, Codable {
    case system, user, assistant
  }

  public var role: Role
  public var content: String

  public init(_ role: Role, _ content: String) {
    self.role = role
    self.content = content
  }
}

/// What a program says about itself.
public struct ModelInfo: Sendable, Equatable {
  public let maxContext: Int
  public let vocabularySize: Int
  public let hiddenSize: Int
  public let bosID: Int32?
  public let eosIDs: [Int32]
  /// The CPU kernels in use, for example "i8mm".
  public let kernels: String
  public let hasTokenizer: Bool
  public let hasDraftHead: Bool
  /// Name of the chat template; nil if there is none, or none that the runner knows.
  public let chatTemplate: String?

  /// For engines that stand in for this package's.
  public init(
    maxContext: Int, vocabularySize: Int, hiddenSize: Int, bosID: Int32? = nil, eosIDs: [Int32] = [],
    kernels: String, hasTokenizer: Bool = true, hasDraftHead: Bool = false,
    chatTemplate: String? = nil
  ) {
    self.maxContext = maxContext
    self.vocabularySize = vocabularySize
    self.hiddenSize = hiddenSize
    self.bosID = bosID
    self.eosIDs = eosIDs
    self.kernels = kernels
    self.hasTokenizer = hasTokenizer
    self.hasDraftHead = hasDraftHead
    self.chatTemplate = chatTemplate
  }

  init(_ handle: NativeHandle) {
    var raw = blockffn_runner_info()
    blockffn_runner_get_info(handle.pointer, &raw)
    maxContext = Int(raw.max_context)
    vocabularySize = Int(raw.vocab_size)
    hiddenSize = Int(raw.hidden_size)
    bosID = raw.bos_id >= 0 ? raw.bos_id : nil
    eosIDs = withUnsafeBytes(of: raw.eos_ids) { $0.bindMemory(to: Int32.self).prefix { $0 >= 0 } }
      .map { $0 }
    kernels = string(of: raw.kernels)
    hasTokenizer = raw.has_tokenizer != 0
    hasDraftHead = raw.has_draft_head != 0
    let template = string(of: raw.chat_template)
    chatTemplate = template.isEmpty ? nil : template
  }
}

/// Text of a C array of char, which Swift sees as a tuple.
private func string<Array>(of array: Array) -> String {
  withUnsafeBytes(of: array) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}
