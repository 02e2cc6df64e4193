import CBlockFFN
import Foundation

/// Why a call failed: the runner's code, and its sentence, which names the cause and the fix.
public struct EngineError: Error, Equatable, Sendable {
  public enum Code: Int32, Sendable {
    case badArgument = 1
    /// The file is missing, damaged or of another version.
    case badProgram = 2
    /// The prompt does not fit; nothing has run.
    case contextFull = 3
    /// A step failed; the engine stays usable.
    case failed = 4
    case busy = 5
    case outOfMemory = 6
  }

  public let code: Code
  public let message: String

  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  /// Of a call that returned `code`; nil for success.
  init?(code: Int32, sentence: String) {
    guard code != 0 else { return nil }
    let known = Code(rawValue: code) ?? .failed
    self.init(known, sentence.isEmpty ? known.defaultSentence : sentence)
  }
}

extension EngineError.Code {
  /// For a code that came without a sentence.
  fileprivate var defaultSentence: String {
    switch self {
    case .busy: return "another generation is running; wait for it, or stop it first"
    case .outOfMemory: return "not enough memory"
    default: return "the native runner failed without a reason (code \(rawValue))"
    }
  }
}

extension EngineError: LocalizedError, CustomStringConvertible {
  public var errorDescription: String? { message }
  public var description: String { message }
}
