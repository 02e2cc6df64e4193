import Foundation

/// Where a program may run. The GPU is Metal's, and has never been tried on Apple hardware.
public enum ComputeDevice: String, Sendable, Codable, CaseIterable {
  case cpu, gpu
  /// The faster one for a prompt of 256 tokens and an answer of 192, by times measured while loading.
  case auto

  /// What the native library needs before it opens a GPU.
  func prepare() {
    guard self != .cpu else { return }
    #if canImport(Metal)
      // Where the verdict on a GPU is kept: an app may not write to the default, ~/.cache.
      if let caches = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask).first {
        setenv("BLOCKFFN_CACHE_DIR", caches.appendingPathComponent("blockffn").path, 0)
      }
      MetalDevice.lendOnce
    #endif
  }
}
