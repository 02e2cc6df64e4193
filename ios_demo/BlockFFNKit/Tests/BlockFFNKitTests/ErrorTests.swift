import Foundation
import Testing

@testable import BlockFFNKit

/// Everything that can be wrong is a Swift error with a code and one sentence.
@Suite(.serialized) struct ErrorTests {
  @Test func filesThatAreNoProgramsAreRefused() async throws {
    try await Fixture.withTemporaryFolder { folder in
      let program = try Data(contentsOf: Fixture.program)
      var flipped = program
      flipped[4] ^= 0xff
      let contents: [String: Data?] = [
        "missing.pte": nil, "empty.pte": Data(), "text.pte": Data("hello".utf8),
        "truncated.pte": program.prefix(program.count - 100), "magic.pte": flipped,
      ]
      for (name, data) in contents {
        let file = folder.appendingPathComponent(name)
        try data?.write(to: file)
        let error = await engineError { _ = try await Engine.load(program: .url(file)) }
        #expect(error?.code == .badProgram, "\(name)")
        #expect(error?.message.contains(name) == true, "\(error?.message ?? "no error")")
        #expect(error?.message.contains("\n") == false)
        #expect(error?.localizedDescription == error?.message)
      }
    }
  }

  @Test func aDescriptorThatIsNoFileIsRefused() async throws {
    let error = await engineError {
      _ = try await Engine.load(program: .descriptor(-1, offset: 0, bytes: 10))
    }
    #expect(error != nil)
  }

  @Test func aWebAddressIsRefused() async throws {
    let address = try #require(URL(string: "https://example.org/model.pte"))
    let error = await engineError { _ = try await Engine.load(program: .url(address)) }
    #expect(error?.code == .badArgument && error?.message.contains("example.org") == true)
  }

  @Test func aBrokenTokenizerIsRefused() async throws {
    let error = await engineError {
      _ = try await Engine.load(program: .url(Fixture.program), tokenizer: .url(Fixture.program))
    }
    #expect(error != nil && error?.message.isEmpty == false)
  }

  @Test func aFileThatIsNoDraftModelIsRefused() async throws {
    var error = await engineError {
      _ = try await Engine.load(program: .url(Fixture.program), draftHead: .url(Fixture.tokenizer))
    }
    #expect(error?.code == .badProgram, "\(error?.message ?? "no error")")
    let engine = try await Fixture.engine()
    var options = options(2, maxTokens: 5)
    options.drafter = .head
    error = await engineError { _ = try await engine.generate("Hi", options: options).collect() }
    #expect(error?.message.contains("head") == true, "\(error?.message ?? "no error")")
  }

  @Test func textWithoutATokenizerIsRefused() async throws {
    let engine = try await Engine.load(program: .url(Fixture.program))
    let error = await engineError { _ = try await engine.generate("Hello").collect() }
    #expect(error?.message.contains("tokenizer") == true, "\(error?.message ?? "no error")")
    let golden = try #require(Fixture.golden.cases.first)
    let tokens = try await engine.generate(
      tokens: golden.promptTokens, options: options(0, maxTokens: 5)
    ).collect().pieces
    #expect(tokens == Array(golden.tokens.prefix(5)))
  }

  @Test func optionsOutOfRangeAreRefused() async throws {
    let engine = try await Fixture.engine()
    let changes: [(String, (inout GenerationOptions) -> Void)] = [
      ("max_tokens", { $0.maxTokens = 0 }), ("draft_tokens", { $0.draftTokens = 64 }),
      ("draft_tokens", { $0.draftTokens = Int.max }), ("draft_width", { $0.draftWidth = 0 }),
      ("draft_depth", { $0.draftDepth = 0 }),
      ("temperature", { $0.temperature = .nan }), ("temperature", { $0.temperature = -1 }),
      ("top_k", { $0.topK = -1 }), ("top_p", { $0.topP = 0 }),
      ("repetition_penalty", { $0.repetitionPenalty = 0 }),
    ]
    for (name, change) in changes {
      var options = GenerationOptions()
      change(&options)
      let error = await engineError { _ = try await engine.generate("Hi", options: options).collect() }
      #expect(error?.code == .badArgument && error?.message.contains(name) == true, "\(name)")
    }
    #expect(try await engine.generate("Hi", options: options(0, maxTokens: 3)).collect().stats != nil)
  }

  @Test func promptsThatCannotRunAreRefused() async throws {
    let engine = try await Fixture.engine()
    let context = engine.info.maxContext
    let long = [Int32](repeating: 5, count: context + 1)
    var error = await engineError { _ = try await engine.generate(tokens: long).collect() }
    #expect(error?.code == .contextFull && error?.message.contains("\(context)") == true)
    error = await engineError { _ = try await engine.generate(tokens: []).collect() }
    #expect(error?.code == .badArgument)
    let outside = Int32(engine.info.vocabularySize)
    error = await engineError { _ = try await engine.generate(tokens: [outside]).collect() }
    #expect(error?.code == .badArgument)
    error = await engineError { _ = try await engine.generate("Hi", stop: ["a\0b"]).collect() }
    #expect(error?.code == .badArgument && error?.message.contains("zero") == true)
  }

  @Test func chatWithoutATemplateIsRefused() async throws {
    let engine = try await Fixture.engine()
    let error = await engineError { _ = try await engine.chat([.init(.user, "Hello")]).collect() }
    #expect(error?.message.contains("template") == true, "\(error?.message ?? "no error")")
  }

  private func engineError(_ body: () async throws -> Void) async -> EngineError? {
    do {
      try await body()
      return nil
    } catch {
      return error as? EngineError
    }
  }
}
