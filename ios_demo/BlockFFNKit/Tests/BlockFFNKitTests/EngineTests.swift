import Foundation
import Testing

@testable import BlockFFNKit

/// The real engine on a real program, against golden tokens of the Python session.
@Suite(.serialized) struct EngineTests {
  @Test(arguments: everyMode.indices)
  func tokensAreTheGoldenOnesInEveryMode(_ mode: Int) async throws {
    let engine = try await Engine.load(program: .url(Fixture.program))
    for golden in Fixture.golden.cases {
      let (tokens, stats) = try await engine.generate(
        tokens: golden.promptTokens, options: options(mode, maxTokens: golden.tokens.count)
      ).collect()
      #expect(tokens == golden.tokens, "\(everyMode[mode].name) after \(golden.prompt)")
      #expect(stats?.generatedTokens == golden.tokens.count)
    }
  }

  @Test(arguments: everyMode.indices)
  func textIsTheGoldenOneInEveryMode(_ mode: Int) async throws {
    let engine = try await Fixture.engine()
    for golden in Fixture.golden.cases {
      #expect(try await engine.encode(golden.prompt) == golden.promptTokens)
      let (pieces, stats) = try await engine.generate(
        golden.prompt, options: options(mode, maxTokens: golden.tokens.count)
      ).collect()
      #expect(pieces.joined() == golden.text, "\(everyMode[mode].name) after \(golden.prompt)")
      #expect(stats?.stop == .maxTokens)
    }
  }

  @Test func speculationIsWhatRan() async throws {
    let engine = try await Engine.load(program: .url(Fixture.program))
    let golden = try #require(Fixture.golden.cases.first)
    let run = { (mode: Int) in
      try await engine.generate(
        tokens: golden.promptTokens, options: options(mode, maxTokens: golden.tokens.count)
      ).collect().stats
    }
    let plain = try #require(try await run(0))
    let tree = try #require(try await run(2))
    #expect(plain.draftedTokens == 0 && plain.tokensPerCycle == 1)
    #expect(plain.cycles == golden.tokens.count - 1)
    #expect(tree.draftedTokens > 0 && tree.acceptedTokens > 0)
    #expect(tree.cycles + tree.acceptedTokens == golden.tokens.count - 1)
    #expect(try #require(tree.tokensPerCycle) > 1)
    for stats in [plain, tree] {
      #expect(stats.promptTokens == golden.promptTokens.count)
      #expect(stats.timeToFirstTokenMs > 0 && stats.decodeMs > 0)
      #expect(try #require(stats.expertsRead) > 0 && stats.expertsRead! < 1)
      #expect(stats.peakResidentBytes > 1_000_000)
    }
  }

  @Test func samplingWithASeedIsTheSameInEveryMode() async throws {
    let engine = try await Fixture.engine()
    let golden = try #require(Fixture.golden.cases.first)
    var texts: Set<String> = []
    for mode in everyMode.indices {
      var options = options(mode, maxTokens: 40)
      options.temperature = 0.9
      options.topP = 0.95
      options.topK = 50
      options.repetitionPenalty = 1.1
      options.seed = 7
      texts.insert(try await engine.generate(golden.prompt, options: options).collect().pieces.joined())
    }
    #expect(texts.count == 1)
    #expect(texts.first?.hasPrefix(golden.text.prefix(40)) == false, "sampling gave greedy text")
  }

  @Test(arguments: [1, 3])
  func aDraftHeadChangesNoToken(_ width: Int) async throws {
    let engine = try await Engine.load(program: .url(Fixture.program), draftHead: .url(Fixture.draftHead))
    #expect(engine.info.hasDraftHead)
    for golden in Fixture.golden.cases {
      for drafter in [GenerationOptions.Drafter.head, .best] {
        var options = options(2, maxTokens: golden.tokens.count)
        options.drafter = drafter
        options.draftWidth = width
        options.draftDepth = 4
        let (tokens, stats) = try await engine.generate(tokens: golden.promptTokens, options: options).collect()
        #expect(tokens == golden.tokens)
        #expect(try #require(stats).acceptedTokens > 0)
      }
    }
  }

  @Test func allExpertsGiveTheSameTokensAndReadEverything() async throws {
    let engine = try await Engine.load(program: .url(Fixture.program), draftHead: .url(Fixture.draftHead))
    let golden = try #require(Fixture.golden.cases.first)
    for mode in everyMode.indices {
      for experts in [GenerationOptions.Experts.all, .active] {
        var options = options(mode, maxTokens: golden.tokens.count)
        options.experts = experts
        let (tokens, stats) = try await engine.generate(tokens: golden.promptTokens, options: options).collect()
        #expect(tokens == golden.tokens, "\(everyMode[mode].name), \(experts)")
        #expect((try #require(stats?.expertsRead) == 1) == (experts == .all))
      }
    }
  }

  @Test func stopStringsEndTheText() async throws {
    let engine = try await Fixture.engine()
    let golden = try #require(Fixture.golden.cases.first)
    let word = try #require(golden.text.split(separator: " ").dropFirst(3).first.map(String.init))
    let (pieces, stats) = try await engine.generate(golden.prompt, stop: [word]).collect()
    let expected = try #require(golden.text.range(of: word))
    #expect(pieces.joined() == golden.text[..<expected.lowerBound])
    #expect(stats?.stop == .stopString)
  }

  @Test func piecesAreWholeCharacters() async throws {
    let engine = try await Fixture.engine()
    var options = GenerationOptions()
    options.temperature = 1.5  // rare tokens: bytes of characters
    options.maxTokens = 200
    for seed in 0..<3 {
      options.seed = UInt64(seed)
      let tokens = try await engine.generate("Übung: 😀 größer", options: options).collect()
      #expect(tokens.pieces.allSatisfy { !$0.isEmpty })
    }
  }

  @Test func aCommonBeginningIsNotComputedAgain() async throws {
    let engine = try await Fixture.engine()
    let golden = try #require(Fixture.golden.cases.first)
    _ = try await engine.generate(golden.prompt, options: options(0, maxTokens: 8)).collect()
    let next = try await engine.generate(
      golden.prompt + golden.text, options: options(0, maxTokens: 4)
    ).collect().stats
    #expect(try #require(next).reusedTokens >= golden.promptTokens.count)
    try await engine.reset()
    let fresh = try await engine.generate(golden.prompt, options: options(0, maxTokens: 4)).collect()
    #expect(fresh.stats?.reusedTokens == 0)
  }

  @Test func aProgramInTheMiddleOfAFileIsMapped() async throws {
    try await Fixture.withTemporaryFolder { folder in
      let program = try Data(contentsOf: Fixture.program)
      let archive = folder.appendingPathComponent("archive")
      try (Data(count: 4096) + program + Data(count: 100)).write(to: archive)
      let file = try FileHandle(forReadingFrom: archive)
      let engine = try await Engine.load(
        program: .descriptor(file.fileDescriptor, offset: 4096, bytes: Int64(program.count)))
      try file.close()
      let golden = try #require(Fixture.golden.cases.first)
      let tokens = try await engine.generate(
        tokens: golden.promptTokens, options: options(2, maxTokens: golden.tokens.count)
      ).collect().pieces
      #expect(tokens == golden.tokens)
      #expect(!engine.info.hasTokenizer)
    }
  }

  @Test func enginesRunAtOnce() async throws {
    let golden = Fixture.golden.cases
    let texts = try await withThrowingTaskGroup(of: [String].self) { group in
      for _ in 0..<2 {
        group.addTask {
          let engine = try await Fixture.engine()
          var texts: [String] = []
          for one in golden {
            texts.append(
              try await engine.generate(one.prompt, options: options(2, maxTokens: one.tokens.count))
                .collect().pieces.joined())
          }
          return texts
        }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(texts == [golden.map(\.text), golden.map(\.text)])
  }

  @Test func generationsOfOneEngineTakeTurns() async throws {
    let engine = try await Fixture.engine()
    let golden = try #require(Fixture.golden.cases.first)
    let settings = options(1, maxTokens: golden.tokens.count)
    async let first = engine.generate(golden.prompt, options: settings).collect()
    async let second = engine.generate(golden.prompt, options: settings).collect()
    let texts = try await [first, second].map { $0.pieces.joined() }
    #expect(texts == [golden.text, golden.text])
  }

  @Test func theProgramSaysWhatItIs() async throws {
    let engine = try await Fixture.engine()
    #expect(engine.info.vocabularySize == Fixture.golden.vocabularySize)
    #expect(engine.info.maxContext == Fixture.golden.maxContext)
    #expect(engine.info.hasTokenizer && !engine.info.kernels.isEmpty)
    #expect(engine.info.chatTemplate == nil)
  }
}
