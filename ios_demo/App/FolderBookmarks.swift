import Foundation

/// Folders from the Files app, which stay usable after the app was closed. Models are mapped where they lie.
enum FolderBookmarks {
  private static let key = "modelFolders"

  /// Remembers a picked folder and opens it for the time that the app runs.
  static func add(_ folder: URL) {
    guard folder.startAccessingSecurityScopedResource(), let bookmark = try? folder.bookmarkData() else { return }
    UserDefaults.standard.set(stored + [bookmark], forKey: key)
  }

  /// The folders that still exist.
  static func restore() -> [URL] {
    var kept: [Data] = []
    var folders: [URL] = []
    for bookmark in stored {
      var isStale = false
      guard let folder = try? URL(resolvingBookmarkData: bookmark, bookmarkDataIsStale: &isStale),
        folder.startAccessingSecurityScopedResource(), !folders.contains(folder)
      else { continue }
      folders.append(folder)
      kept.append(isStale ? (try? folder.bookmarkData()) ?? bookmark : bookmark)
    }
    UserDefaults.standard.set(kept, forKey: key)
    return folders
  }

  private static var stored: [Data] { UserDefaults.standard.array(forKey: key) as? [Data] ?? [] }
}
