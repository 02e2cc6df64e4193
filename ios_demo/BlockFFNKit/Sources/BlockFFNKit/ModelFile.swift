import CBlockFFN
import Foundation

/// A file for the native runner. It is memory-mapped in place: neither read as a whole nor copied.
public enum ModelFile: Sendable {
  /// A file by its URL; one that the document picker handed over is opened within its security scope.
  case url(URL)
  /// `bytes` from `offset` on of an open descriptor, 0 bytes meaning to its end. The descriptor may be
  /// closed after the call that takes it.
  case descriptor(Int32, offset: Int64, bytes: Int64)

  func withNative<Result>(_ body: (UnsafePointer<blockffn_file>) throws -> Result) throws -> Result {
    switch self {
    case .descriptor(let descriptor, let offset, let bytes):
      var file = blockffn_file(path: nil, fd: descriptor, offset: offset, bytes: bytes)
      return try body(&file)
    case .url(let url):
      guard url.isFileURL else {
        throw EngineError(.badArgument, "\(url.absoluteString) is not a file; download it first")
      }
      #if canImport(Darwin)
        // The mapping stays valid after the scope ends.
        let scoped = url.startAccessingSecurityScopedResource()
        defer { if scoped { url.stopAccessingSecurityScopedResource() } }
      #endif
      return try url.withUnsafeFileSystemRepresentation { path in
        var file = blockffn_file(path: path, fd: -1, offset: 0, bytes: 0)
        return try body(&file)
      }
    }
  }
}
