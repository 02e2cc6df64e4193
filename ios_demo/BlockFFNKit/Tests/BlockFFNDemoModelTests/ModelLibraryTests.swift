import Foundation
import Testing

@testable import BlockFFNDemoModel

@MainActor @Suite struct ModelLibraryTests {
  private func folder(_ files: [String], _ body: (URL) async throws -> Void) async throws {
    let root = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: root) }
    for file in files {
      let url = root.appendingPathComponent(file)
      try FileManager.default.createDirectory(
        at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(count: 10).write(to: url)
    }
    try await body(root)
  }

  @Test func filesOfAFolderBelongTogether() async throws {
    let files = [
      "docs/model-int8.pte", "docs/model-int4.pte", "docs/draft-int8.pte", "docs/large.pte",
      "docs/tokenizer.json", "docs/tokenizer_config.json", "docs/notes.txt",
      "other/model.pte", "other/tokenizer.json", "broken/model.pte", "empty/x",
    ]
    try await folder(files) { root in
      let entries = ModelLibrary.entries(in: root)
      #expect(entries.map(\.name) == ["docs, int4", "docs, int8", "docs, large", "other"])
      #expect(entries[1].draftHead?.lastPathComponent == "draft-int8.pte")
      #expect(entries[0].draftHead?.lastPathComponent == "draft-int8.pte")  // the only one
      #expect(entries[1].tokenizerConfig != nil && entries[1].bytes == 10)
      #expect(entries[3].draftHead == nil && entries[3].tokenizerConfig == nil)
    }
  }

  @Test func aFolderWithoutAModelIsRefusedWithTheFix() async throws {
    try await folder(["a/model.pte", "b/tokenizer.json"]) { root in
      let model = ChatModel(load: FakeLoader { FakeEngine() }.loader)
      await model.importFolder(root.appendingPathComponent("a"))
      #expect(model.notice?.contains("tokenizer.json") == true)
      await model.importFolder(root.appendingPathComponent("b"))
      #expect(model.notice?.contains("to_executorch.py") == true)
      await model.importFolder(root.appendingPathComponent("missing"))
      #expect(model.notice?.contains("missing") == true)
      #expect(model.models.isEmpty && model.phase == .noModel)
    }
  }

  @Test func importedModelsAreSelectedAndListedOnce() async throws {
    try await folder(["a/model.pte", "a/tokenizer.json", "b/model.pte", "b/tokenizer.json"]) { root in
      let model = ChatModel(load: FakeLoader { FakeEngine() }.loader)
      await model.addModels(from: [root])
      #expect(model.models.map(\.name) == ["a", "b"] && model.selected?.name == "a" && model.phase == .ready)
      await model.importFolder(root.appendingPathComponent("b"))
      #expect(model.models.count == 2 && model.selected?.name == "b")
      await model.addModels(from: [root])
      #expect(model.models.count == 2 && model.selected?.name == "b")
    }
  }
}
