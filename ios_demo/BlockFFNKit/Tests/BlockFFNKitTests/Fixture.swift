import Foundation

@testable import BlockFFNKit

/// The exported program that tests/ios prepares, and what the Python session makes of it.
struct Fixture: Decodable {
  struct Case: Decodable {
    let prompt: String
    let promptTokens: [Int32]
    /// Greedy continuation.
    let tokens: [Int32]
    let text: String
  }

  let vocabularySize: Int
  let maxContext: Int
  let cases: [Case]

  static let folder: URL = {
    guard let path = ProcessInfo.processInfo.environment["BLOCKFFN_TEST_MODEL"] else {
      fatalError("run the tests with `pytest tests/ios`, which prepares $BLOCKFFN_TEST_MODEL")
    }
    return URL(fileURLWithPath: path)
  }()
  static let program = folder.appendingPathComponent("model-int8.pte")
  /// The shipped checkpoint's trained head.
  static let draftHead = folder.appendingPathComponent("draft-int8.pte")
  static let tokenizer = folder.appendingPathComponent("tokenizer.json")
  static let tokenizerConfig = folder.appendingPathComponent("tokenizer_config.json")
  static let golden: Fixture = {
    do {
      let data = try Data(contentsOf: folder.appendingPathComponent("golden.json"))
      return try JSONDecoder().decode(Fixture.self, from: data)
    } catch {
      fatalError("golden.json: \(error)")
    }
  }()

  static func engine() async throws -> Engine {
    try await Engine.load(
      program: .url(program), tokenizer: .url(tokenizer), tokenizerConfig: .url(tokenizerConfig))
  }

  /// A folder that is removed afterwards.
  static func withTemporaryFolder(_ body: (URL) async throws -> Void) async throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try await body(folder)
  }
}

/// Every way to speculate; the first is none.
let everyMode: [(name: String, mode: GenerationOptions.Mode, draftTokens: Int, draftWidth: Int)] = [
  ("plain", .plain, 1, 1),
  ("chain", .speculative, 7, 1),
  ("tree", .speculative, 31, 3),
  ("automatic", .automatic, 31, 3),
]

func options(_ index: Int, maxTokens: Int) -> GenerationOptions {
  var options = GenerationOptions()
  options.mode = everyMode[index].mode
  options.draftTokens = everyMode[index].draftTokens
  options.draftWidth = everyMode[index].draftWidth
  options.maxTokens = maxTokens
  return options
}
