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
    /// A file's pages become no buffer.
    case noMapping
    case noMemory, noCompiler, noUnifiedMemory, noDevice
    /// Command buffers fail from number `failsFrom` on.
    case lost
  }

  nonisolated(unsafe) public static var fault = Fault.none
  nonisolated(unsafe) public static var failsFrom = 0
  /// Dispatches take no time and do nothing: for what only measures.
  nonisolated(unsafe) public static var skipsKernels = false
  /// What has run since a test set them to zero.
  nonisolated(unsafe) public static var commandBuffers = 0, dispatches = 0, indirectDispatches = 0, barriers = 0
  /// All bytes that were copied between buffers, logits among them.
  nonisolated(unsafe) public static var copied = Hasher()
  /// Of the buffers that live: with memory of their own, and over that of files.
  nonisolated(unsafe) public static var ownBytes = 0, mappedBytes = 0

  /// Why memory cannot become a buffer without a copy: Metal wants whole pages of one region, and malloc's are none.
  /// The library gives it files alone.
  public static func refusal(_ pointer: UnsafeMutableRawPointer, _ length: Int) -> String? {
    let start = UInt(bitPattern: pointer), page = UInt(sysconf(Int32(_SC_PAGESIZE)))
    guard start % page == 0 else { return "memory that does not begin at a page" }
    guard length > 0, UInt(length) % page == 0 else { return "\(length) bytes are not whole pages" }
    let regions = fopen("/proc/self/maps", "r")!  // Foundation reads its first part alone
    defer { fclose(regions) }
    var line = [CChar](repeating: 0, count: 8192)
    while fgets(&line, Int32(line.count), regions) != nil {
      let fields = String(cString: line).split(separator: " ", omittingEmptySubsequences: true)
      let ends = fields[0].split(separator: "-").map { UInt($0, radix: 16)! }
      guard ends[0] <= start, start < ends[1] else { continue }
      guard start + UInt(length) <= ends[1] else { return "memory beyond the end of its region" }
      return fields.count > 5 && fields[5].hasPrefix("/") ? nil : "memory that is no file's"
    }
    return "memory that is not mapped"
  }
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
