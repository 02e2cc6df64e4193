import BlockFFNKit
import Foundation
import Testing

@testable import BlockFFNDemoModel

/// The same screens with the native engine and the shipped checkpoint's program.
@MainActor @Suite(.serialized) struct RealEngineTests {
  private struct Golden: Decodable {
    struct Case: Decodable {
      let prompt: String
      let tokens: [Int32]
      let text: String
    }
    let cases: [Case]
  }

  private static let folder = URL(
    fileURLWithPath: ProcessInfo.processInfo.environment["BLOCKFFN_TEST_MODEL"] ?? "/missing")

  @Test func theChatScreenShowsTheGoldenTextWithAndWithoutSpeculation() async throws {
    let golden = try JSONDecoder().decode(
      Golden.self, from: Data(contentsOf: Self.folder.appendingPathComponent("golden.json")))
    let model = ChatModel()
    await model.addModels(from: [Self.folder])
    #expect(model.phase == .ready, "\(model.phase)")
    for (dense, speculation) in BenchmarkModel.cases(of: try #require(model.selected)) {
      for one in golden.cases {
        var settings = model.settings
        settings.dense = dense
        settings.speculation = speculation
        settings.maxTokens = one.tokens.count
        model.apply(settings)
        model.prompt = one.prompt
        await model.send()
        let turn = try #require(model.turns.last)
        #expect(turn.answer == one.text)
        #expect(turn.figures?.line.contains("% experts") == true)
        #expect(turn.figures?.line.contains("100 % experts") == dense)
        #expect(turn.note == "Ended after the number of tokens that the settings allow.")
      }
    }
    await model.memoryWarning()
    #expect(model.phase == .unloaded)
  }

  @Test func theBenchmarkScreenMeasures() async throws {
    let entry = try #require(try ModelLibrary.entries(ofFolder: Self.folder).first)
    let model = BenchmarkModel {
      DeviceSnapshot(model: "test", system: "Linux", thermal: .nominal)
    }
    model.maxTokens = 48
    model.rounds = 1
    await model.run(entry)
    guard case .finished(let report) = model.phase else {
      Issue.record("\(model.phase)")
      return
    }
    #expect(report.sameText && report.rows.map(\.speculation) == Speculation.allCases + Speculation.allCases)
    #expect(report.rows.map(\.dense) == [true, true, true, true, false, false, false, false])
    #expect(report.rows.allSatisfy { $0.median > 0 && $0.expertsRead! > 0 && ($0.expertsRead == 1) == $0.dense })
    #expect(report.rows[0].tokensPerCycle == 1 && report.rows[4].tokensPerCycle == 1)
  }
}
