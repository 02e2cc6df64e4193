import Foundation
import Glibc

/// How the stand-in behaves, for tests.
public enum StandIn {
  public enum Fault: String, CaseIterable {
    case none
    /// memoryBarrier does nothing: dispatches overlap that must not.
    case ignoresBarriers
    /// One bit of a result of every 100th dispatch is wrong.
    case wrongBit
    case noMemory, noCompiler, noUnifiedMemory, noDevice
    /// Command buffers fail from number `failsFrom` on.
    case lost
  }

  nonisolated(unsafe) public static var fault = Fault.none
  nonisolated(unsafe) public static var failsFrom = 0
  /// What has run since a test set them to zero.
  nonisolated(unsafe) public static var commandBuffers = 0, dispatches = 0, indirectDispatches = 0, barriers = 0
}

/// Metal's validation layer ends the process too.
func require(_ condition: Bool, _ sentence: @autoclosure () -> String) {
  if !condition { fatalError("the Metal stand-in: \(sentence())") }
}

/// The kernels as C++ (tests/ios/metal_kernels.py): one library with, for every kernel and number of tokens, its
/// source, a function that runs a grid, and the numbers of the buffers that it takes.
struct Kernel {
  typealias Run = @convention(c) (UnsafePointer<UnsafeMutableRawPointer?>, UnsafePointer<UInt32>) -> Int32
  let name: String
  let run: Run
  let buffers: UInt32

  private typealias Find =
    @convention(c) (
      UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>, UnsafePointer<CChar>,
      UnsafeMutablePointer<UInt32>
    ) -> UnsafeMutableRawPointer?
  private static let find: Find = {
    guard let path = ProcessInfo.processInfo.environment["BLOCKFFN_METAL_KERNELS"],
      let library = dlopen(path, RTLD_NOW), let find = dlsym(library, "find_kernel")
    else { fatalError("the Metal stand-in: run it with pytest tests/ios, which sets BLOCKFFN_METAL_KERNELS") }
    return unsafeBitCast(find, to: Find.self)
  }()

  /// Nil unless exactly this source was made into C++, with these macros.
  init?(source: String, name: String, macros: [String: NSObject]) {
    let text = { (macro: String) in (macros[macro] as? NSString).map { String(describing: $0) } ?? "" }
    var buffers: UInt32 = 0
    guard let run = Self.find(source, name, text("BLOCKFFN_THREADS"), text("BLOCKFFN_TOKENS"), &buffers)
    else { return nil }
    self.name = name
    self.run = unsafeBitCast(run, to: Run.self)
    self.buffers = buffers
  }
}
