// The part of Apple's Metal that BlockFFNKit uses, with the signatures that Swift gives it and the behaviour that its
// documentation states, on Linux: kernels are run on the CPU when a command buffer is committed. Dispatches of a
// concurrent encoder run in the reverse of their order up to the next barrier, since Metal promises no order.
// What Metal's validation layer would report ends the process.
import Foundation

public protocol MTLDevice: AnyObject {
  var name: String { get }
  var hasUnifiedMemory: Bool { get }
  var maxBufferLength: Int { get }
  var maxThreadgroupMemoryLength: Int { get }
  var maxThreadsPerThreadgroup: MTLSize { get }
  func makeCommandQueue() -> (any MTLCommandQueue)?
  func makeBuffer(length: Int, options: MTLResourceOptions) -> (any MTLBuffer)?
  func makeBuffer(
    bytesNoCopy pointer: UnsafeMutableRawPointer, length: Int, options: MTLResourceOptions,
    deallocator: ((UnsafeMutableRawPointer, Int) -> Void)?
  ) -> (any MTLBuffer)?
  func makeLibrary(source: String, options: MTLCompileOptions?) throws -> any MTLLibrary
  func makeComputePipelineState(function: any MTLFunction) throws -> any MTLComputePipelineState
}
public protocol MTLBuffer: AnyObject {
  var length: Int { get }
  func contents() -> UnsafeMutableRawPointer
}
public protocol MTLLibrary: AnyObject { func makeFunction(name: String) -> (any MTLFunction)? }
public protocol MTLFunction: AnyObject { var name: String { get } }
public protocol MTLComputePipelineState: AnyObject { var maxTotalThreadsPerThreadgroup: Int { get } }
public protocol MTLCommandQueue: AnyObject { func makeCommandBuffer() -> (any MTLCommandBuffer)? }
public protocol MTLCommandBuffer: AnyObject {
  var status: MTLCommandBufferStatus { get }
  var error: (any Error)? { get }
  func makeComputeCommandEncoder(dispatchType: MTLDispatchType) -> (any MTLComputeCommandEncoder)?
  func makeBlitCommandEncoder() -> (any MTLBlitCommandEncoder)?
  func commit()
  func waitUntilCompleted()
}
public protocol MTLCommandEncoder: AnyObject { func endEncoding() }
public protocol MTLComputeCommandEncoder: MTLCommandEncoder {
  func setComputePipelineState(_ state: any MTLComputePipelineState)
  func setBytes(_ bytes: UnsafeRawPointer, length: Int, index: Int)
  func setBuffer(_ buffer: (any MTLBuffer)?, offset: Int, index: Int)
  func memoryBarrier(scope: MTLBarrierScope)
  func dispatchThreadgroups(_ threadgroupsPerGrid: MTLSize, threadsPerThreadgroup: MTLSize)
  func dispatchThreadgroups(
    indirectBuffer: any MTLBuffer, indirectBufferOffset: Int, threadsPerThreadgroup: MTLSize)
}
public protocol MTLBlitCommandEncoder: MTLCommandEncoder {
  func fill(buffer: any MTLBuffer, range: Range<Int>, value: UInt8)
  func copy(
    from: any MTLBuffer, sourceOffset: Int, to: any MTLBuffer, destinationOffset: Int, size: Int)
}

public struct MTLSize {
  public var width: Int, height: Int, depth: Int
  public init(width: Int, height: Int, depth: Int) {
    self.width = width
    self.height = height
    self.depth = depth
  }
}
public struct MTLResourceOptions: OptionSet {
  public let rawValue: UInt
  public init(rawValue: UInt) { self.rawValue = rawValue }
  public static let storageModeShared = MTLResourceOptions([])
  public static let storageModePrivate = MTLResourceOptions(rawValue: 32)
}
public struct MTLBarrierScope: OptionSet {
  public let rawValue: UInt
  public init(rawValue: UInt) { self.rawValue = rawValue }
  public static let buffers = MTLBarrierScope(rawValue: 1)
}
public enum MTLDispatchType: UInt { case serial, concurrent }
public enum MTLCommandBufferStatus: UInt { case notEnqueued, enqueued, committed, scheduled, completed, error }
public enum MTLLanguageVersion: UInt { case version2_2 = 0x20002 }
public enum MTLMathMode: Int { case safe, relaxed, fast }
public final class MTLCompileOptions {
  public var preprocessorMacros: [String: NSObject]?
  public var fastMathEnabled = true
  public var mathMode = MTLMathMode.fast
  public var languageVersion = MTLLanguageVersion.version2_2
  public init() {}
}

public func MTLCreateSystemDefaultDevice() -> (any MTLDevice)? {
  StandIn.fault == .noDevice ? nil : Device()
}

/// Apple's comes with Objective-C.
public func autoreleasepool<Result>(invoking body: () throws -> Result) rethrows -> Result { try body() }

struct MetalError: LocalizedError {
  let errorDescription: String?
}

private final class Device: MTLDevice, MTLCommandQueue {
  let name = "stand-in \(StandIn.fault == .noMapping ? .none : StandIn.fault)"  // what it computes is no other
  let hasUnifiedMemory = StandIn.fault != .noUnifiedMemory
  let maxBufferLength = 1 << 30
  let maxThreadgroupMemoryLength = 32768
  let maxThreadsPerThreadgroup = MTLSize(width: 1024, height: 1024, depth: 1024)

  func makeCommandQueue() -> (any MTLCommandQueue)? { self }
  func makeCommandBuffer() -> (any MTLCommandBuffer)? { CommandBuffer() }
  func makeBuffer(length: Int, options: MTLResourceOptions) -> (any MTLBuffer)? {
    require(length > 0 && options == .storageModeShared, "the tests' host code shares its buffers")
    return length > maxBufferLength || StandIn.fault == .noMemory ? nil : Buffer(length)
  }
  func makeBuffer(
    bytesNoCopy pointer: UnsafeMutableRawPointer, length: Int, options: MTLResourceOptions,
    deallocator: ((UnsafeMutableRawPointer, Int) -> Void)?
  ) -> (any MTLBuffer)? {
    require(options == .storageModeShared && deallocator == nil, "the library owns what it maps")
    if let reason = StandIn.refusal(pointer, length) { fatalError("the Metal stand-in: \(reason)") }
    return length > maxBufferLength || StandIn.fault == .noMapping ? nil : MappedBuffer(pointer, length)
  }
  func makeLibrary(source: String, options: MTLCompileOptions?) throws -> any MTLLibrary {
    if StandIn.fault == .noCompiler { throw MetalError(errorDescription: "program_source:1:1: error: planted") }
    let options = options ?? MTLCompileOptions()
    guard options.mathMode == .safe || !options.fastMathEnabled else {
      throw MetalError(errorDescription: "the stand-in has no fast math")
    }
    return Library(source, options.preprocessorMacros ?? [:])
  }
  func makeComputePipelineState(function: any MTLFunction) throws -> any MTLComputePipelineState {
    Pipeline((function as! Function).kernel)
  }
}

private final class Buffer: MTLBuffer {
  let length: Int
  private let memory: UnsafeMutableRawPointer
  init(_ length: Int) {
    self.length = length
    memory = .allocate(byteCount: length, alignment: 16384)
    memset(memory, 0x5a, length)  // Metal's are zero; the library must not need that
    StandIn.ownBytes += length
  }
  deinit {
    memory.deallocate()
    StandIn.ownBytes -= length
  }
  func contents() -> UnsafeMutableRawPointer { memory }
}

/// Over memory of the caller's, which has to stay mapped as long as the buffer lives and is only read.
private final class MappedBuffer: MTLBuffer {
  let length: Int
  private let memory: UnsafeMutableRawPointer
  init(_ memory: UnsafeMutableRawPointer, _ length: Int) {
    self.length = length
    self.memory = memory
    StandIn.mappedBytes += length
  }
  deinit {
    require(StandIn.refusal(memory, length) == nil, "memory was unmapped before the buffer over it was released")
    StandIn.mappedBytes -= length
  }
  func contents() -> UnsafeMutableRawPointer { memory }
  func used() {
    require(StandIn.refusal(memory, length) == nil, "a buffer is used over memory that is not mapped any more")
  }
}

private final class Library: MTLLibrary {
  private let source: String
  private let macros: [String: NSObject]
  init(_ source: String, _ macros: [String: NSObject]) {
    self.source = source
    self.macros = macros
  }
  func makeFunction(name: String) -> (any MTLFunction)? {
    Kernel(source: source, name: name, macros: macros).map { Function($0) }
  }
}

private final class Function: MTLFunction {
  let kernel: Kernel
  var name: String { kernel.name }
  init(_ kernel: Kernel) { self.kernel = kernel }
}

private final class Pipeline: MTLComputePipelineState {
  let kernel: Kernel
  let maxTotalThreadsPerThreadgroup = 1024
  init(_ kernel: Kernel) { self.kernel = kernel }
}

private final class CommandBuffer: MTLCommandBuffer {
  private(set) var status = MTLCommandBufferStatus.notEnqueued
  private(set) var error: (any Error)?
  private var work: [() -> Void] = []
  private weak var open: Encoder?
  private var mapped: [ObjectIdentifier: MappedBuffer] = [:]

  func makeComputeCommandEncoder(dispatchType: MTLDispatchType) -> (any MTLComputeCommandEncoder)? {
    begin(ComputeEncoder(self, dispatchType))
  }
  func makeBlitCommandEncoder() -> (any MTLBlitCommandEncoder)? { begin(BlitEncoder(self)) }
  private func begin<Made: Encoder>(_ encoder: Made) -> Made {
    require(status == .notEnqueued, "a committed command buffer takes no encoder")
    require(open == nil, "a command buffer has one open encoder at a time")
    open = encoder
    return encoder
  }
  func ended(_ body: @escaping () -> Void) {
    open = nil
    work.append(body)
  }
  func uses(_ buffer: (any MTLBuffer)?) {
    if let buffer = buffer as? MappedBuffer { mapped[ObjectIdentifier(buffer)] = buffer }
  }
  func commit() {
    require(status == .notEnqueued && open == nil, "a command buffer is committed once, its encoders ended")
    status = .committed
  }
  func waitUntilCompleted() {
    require(status == .committed, "waiting for a command buffer that was not committed")
    StandIn.commandBuffers += 1
    if StandIn.fault == .lost && StandIn.commandBuffers > StandIn.failsFrom {
      status = .error
      error = MetalError(errorDescription: "Insufficient Permission (to submit GPU work from background)")
      return
    }
    for buffer in mapped.values { buffer.used() }
    for body in work { body() }
    work = []
    mapped = [:]
    status = .completed
  }
}

private class Encoder: MTLCommandEncoder {
  let buffer: CommandBuffer
  var isOpen = true
  init(_ buffer: CommandBuffer) { self.buffer = buffer }
  deinit { require(!isOpen, "a command encoder was released without endEncoding") }
  func encode() { require(isOpen, "an ended encoder takes no commands") }
  func endEncoding() { fatalError("abstract") }
}

private final class BlitEncoder: Encoder, MTLBlitCommandEncoder {
  private var work: [() -> Void] = []

  func fill(buffer: any MTLBuffer, range: Range<Int>, value: UInt8) {
    encode()
    require(range.lowerBound % 4 == 0 && range.count % 4 == 0 && range.upperBound <= buffer.length, "fill \(range)")
    require(buffer is Buffer, "a file's pages are only read")
    work.append { memset(buffer.contents() + range.lowerBound, Int32(value), range.count) }
  }
  func copy(
    from: any MTLBuffer, sourceOffset: Int, to: any MTLBuffer, destinationOffset: Int, size: Int
  ) {
    encode()
    require(
      sourceOffset % 4 == 0 && destinationOffset % 4 == 0 && size % 4 == 0 && size > 0
        && sourceOffset + size <= from.length && destinationOffset + size <= to.length, "copy of \(size) bytes")
    require(to is Buffer, "a file's pages are only read")
    work.append {
      let source = from.contents() + sourceOffset
      StandIn.copied.combine(bytes: UnsafeRawBufferPointer(start: source, count: size))
      memcpy(to.contents() + destinationOffset, source, size)
    }
  }
  override func endEncoding() {
    encode()
    isOpen = false
    let work = work
    buffer.ended { for body in work { body() } }
  }
}

private final class ComputeEncoder: Encoder, MTLComputeCommandEncoder {
  private struct Argument {
    var buffer: (any MTLBuffer)?
    var offset = 0
    var bytes: [UInt8] = []
  }
  private let type: MTLDispatchType
  private var pipeline: Pipeline?
  private var arguments = [Argument](repeating: Argument(), count: 31)
  private var work: [() -> Void] = []
  /// Since the last barrier.
  private var overlapping: [() -> Void] = []

  init(_ buffer: CommandBuffer, _ type: MTLDispatchType) {
    self.type = type
    super.init(buffer)
  }
  func setComputePipelineState(_ state: any MTLComputePipelineState) {
    encode()
    pipeline = (state as! Pipeline)
  }
  func setBytes(_ bytes: UnsafeRawPointer, length: Int, index: Int) {
    encode()
    require(length > 0 && length <= 4096, "setBytes takes 1 to 4096 bytes")
    arguments[index] = Argument(bytes: Array(UnsafeRawBufferPointer(start: bytes, count: length)))
  }
  func setBuffer(_ buffer: (any MTLBuffer)?, offset: Int, index: Int) {
    encode()
    require(buffer == nil || (offset >= 0 && offset < buffer!.length && offset % 16 == 0), "offset \(offset)")
    arguments[index] = Argument(buffer: buffer, offset: offset)
    self.buffer.uses(buffer)
  }
  func memoryBarrier(scope: MTLBarrierScope) {
    encode()
    require(scope == .buffers, "the tests' kernels share buffers alone")
    if StandIn.fault != .ignoresBarriers { finishOverlapping() }
    StandIn.barriers += 1
  }
  func dispatchThreadgroups(_ groups: MTLSize, threadsPerThreadgroup threads: MTLSize) {
    let groups = [groups.width, groups.height, groups.depth].map { UInt32($0) }
    dispatch(threads) { groups }
  }
  func dispatchThreadgroups(
    indirectBuffer: any MTLBuffer, indirectBufferOffset offset: Int, threadsPerThreadgroup threads: MTLSize
  ) {
    require(offset % 4 == 0 && offset + 12 <= indirectBuffer.length, "an indirect dispatch at \(offset)")
    StandIn.indirectDispatches += 1
    dispatch(threads) {
      (0..<3).map { indirectBuffer.contents().load(fromByteOffset: offset + 4 * $0, as: UInt32.self) }
    }
  }
  private func dispatch(_ threads: MTLSize, _ groups: @escaping () -> [UInt32]) {
    encode()
    guard let kernel = pipeline?.kernel else { fatalError("the Metal stand-in: a dispatch without a pipeline") }
    require(
      threads.width == 64 && threads.height == 1 && threads.depth == 1, "the kernels were compiled for 64 threads")
    let arguments = Array(arguments.prefix(8))
    for i in 0..<8 where kernel.buffers >> i & 1 == 1 {
      require(arguments[i].buffer != nil || !arguments[i].bytes.isEmpty, "\(kernel.name) misses buffer \(i)")
    }
    StandIn.dispatches += 1
    if StandIn.skipsKernels { return }
    let number = StandIn.dispatches
    overlapping.append {
      // The arguments in memory of their own, as a GPU has them.
      var push = arguments[0].bytes
      push.withUnsafeMutableBytes { push in
        var pointers = arguments.map { $0.buffer.map { buffer in buffer.contents() } }
        for i in 1..<8 { pointers[i] = pointers[i].map { $0 + arguments[i].offset } }
        pointers[0] = push.baseAddress
        require(kernel.run(pointers, groups()) == 0, "\(kernel.name): threads part before a barrier")
        if StandIn.fault == .wrongBit && number % 100 == 0 {
          pointers[3]!.storeBytes(
            of: pointers[3]!.load(as: UInt32.self) ^ 0x0040_0000, as: UInt32.self)
        }
      }
    }
    if type == .serial { finishOverlapping() }
  }
  private func finishOverlapping() {
    work += overlapping.reversed()
    overlapping = []
  }
  override func endEncoding() {
    encode()
    finishOverlapping()
    isOpen = false
    let work = work
    buffer.ended { for body in work { body() } }
  }
}
