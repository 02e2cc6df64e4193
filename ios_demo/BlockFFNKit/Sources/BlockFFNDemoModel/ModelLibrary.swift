import Foundation

/// A model of the picker: the files of one folder that belong together.
public struct ModelEntry: Identifiable, Hashable, Sendable {
  /// It names the entry.
  public let program: URL
  /// The EAGLE head that drafts; nil if the folder has none.
  public let draftHead: URL?
  public let tokenizer: URL
  public let tokenizerConfig: URL?
  public let bytes: Int64

  public var id: URL { program }

  /// For example "blockffn-22m-docs, int8" of model-int8.pte in that folder.
  public var name: String {
    let folder = program.deletingLastPathComponent().lastPathComponent
    let stem = program.deletingPathExtension().lastPathComponent
    if stem == "model" { return folder }
    return "\(folder), \(stem.hasPrefix("model-") ? String(stem.dropFirst("model-".count)) : stem)"
  }
}

/// Why a folder is no model; a sentence that names the fix.
public struct ModelLibraryError: LocalizedError, Equatable {
  public let errorDescription: String?
}

/// Finds models in folders as `export/to_executorch.py` writes them: programs beside their tokenizer.json.
/// A program with "draft" or "head" in its name is the draft head; the others are models of their own.
public enum ModelLibrary {
  /// Models of the folder and of the folders in it, by name.
  public static func entries(in folder: URL) -> [ModelEntry] {
    let folders = [folder] + contents(of: folder).filter(isFolder)
    return folders.flatMap { (try? entries(ofFolder: $0)) ?? [] }
      .sorted { $0.name.localizedStandardCompare($1.name) == .orderedAscending }
  }

  /// The models of a folder that a person has picked. Throws `ModelLibraryError`.
  public static func entries(ofFolder folder: URL) throws -> [ModelEntry] {
    let files = contents(of: folder)
    let programs = files.filter { $0.pathExtension.lowercased() == "pte" }
      .sorted { $0.lastPathComponent < $1.lastPathComponent }
    let heads = programs.filter { $0.hasInName("draft") || $0.hasInName("head") }
    let models = programs.filter { !heads.contains($0) }
    let name = folder.lastPathComponent
    guard !models.isEmpty else {
      throw ModelLibraryError(
        errorDescription:
          "“\(name)” has no program (.pte). Choose the folder that export/to_executorch.py wrote.")
    }
    guard let tokenizer = files.first(where: { $0.lastPathComponent == "tokenizer.json" }) else {
      throw ModelLibraryError(
        errorDescription:
          "“\(name)” has no tokenizer.json. Copy the whole folder that export/to_executorch.py wrote.")
    }
    let config = files.first { $0.lastPathComponent == "tokenizer_config.json" }
    return models.map { program in
      ModelEntry(
        program: program, draftHead: partner(of: program, in: heads), tokenizer: tokenizer, tokenizerConfig: config,
        bytes: Int64((try? program.resourceValues(forKeys: [.fileSizeKey]))?.fileSize ?? 0))
    }
  }

  /// The one of equal precision, else the only one.
  private static func partner(of program: URL, in others: [URL]) -> URL? {
    others.first { $0.precision == program.precision } ?? (others.count == 1 ? others[0] : nil)
  }

  private static func contents(of folder: URL) -> [URL] {
    (try? FileManager.default.contentsOfDirectory(
      at: folder, includingPropertiesForKeys: [.isDirectoryKey, .fileSizeKey], options: .skipsHiddenFiles)) ?? []
  }

  private static func isFolder(_ url: URL) -> Bool {
    (try? url.resourceValues(forKeys: [.isDirectoryKey]))?.isDirectory == true
  }
}

extension URL {
  fileprivate func hasInName(_ word: String) -> Bool { lastPathComponent.lowercased().contains(word) }

  /// "int8" of "model-int8.pte"; "" without one.
  fileprivate var precision: String {
    let last = deletingPathExtension().lastPathComponent.split(separator: "-").last.map(String.init) ?? ""
    return ["fp32", "fp16", "int8", "int4"].contains(last) ? last : ""
  }
}
