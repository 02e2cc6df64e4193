#if canImport(Metal)
  import CBlockFFN
  import Foundation
  import Metal

  /// Metal for the native library: makes buffers and pipelines, and encodes the commands that the library lists
  /// (blockffn_metal.h). What runs, in which order and on which memory is the library's, the same for every GPU.
  ///
  /// It has never run on Apple hardware: ios_demo/README.md says what was checked, and how.
  final class MetalDevice {
    private let device: any MTLDevice
    private let queue: any MTLCommandQueue
    private let name: UnsafeMutablePointer<CChar>
    private let version: UnsafeMutablePointer<CChar>

    private init?(_ device: any MTLDevice) {
      // The library writes weights and reads results where they lie, so the GPU must share the CPU's memory.
      guard device.hasUnifiedMemory, let queue = device.makeCommandQueue() else { return nil }
      self.device = device
      self.queue = queue
      name = strdup(device.name)
      version = strdup(ProcessInfo.processInfo.operatingSystemVersionString)
    }

    /// Once per process, before the first program that wants a GPU is loaded.
    static let lendOnce: Void = lend()

    /// From now on `device=gpu` means this system's Metal device, if it has one that shares its memory.
    static func lend() {
      guard let device = MTLCreateSystemDefaultDevice(), let metal = MetalDevice(device) else { return }
      let group = device.maxThreadsPerThreadgroup
      var table = blockffn_metal()
      table.context = Unmanaged.passRetained(metal).toOpaque()  // for good: programs may outlive a successor
      table.name = UnsafePointer(metal.name)
      table.version = UnsafePointer(metal.version)
      table.buffer_bytes = UInt64(device.maxBufferLength)
      table.threadgroup_threads = UInt32(clamping: group.width)
      table.threadgroup_bytes = UInt32(clamping: device.maxThreadgroupMemoryLength)
      table.make_buffer = { context, bytes, contents in
        MetalDevice.at(context).makeBuffer(bytes, contents)
      }
      table.map_buffer = { context, start, bytes in MetalDevice.at(context).mapBuffer(start!, bytes) }
      table.make_pipeline = { context, source, name, threads, tokens, sentence, size in
        var made: UnsafeMutableRawPointer?
        _ = report(to: sentence, size) {
          made = try MetalDevice.at(context).makePipeline(
            String(cString: source!), String(cString: name!), threads: threads, tokens: tokens)
        }
        return made
      }
      table.release = { object in Unmanaged<AnyObject>.fromOpaque(object!).release() }
      table.run = { context, commands, count, sentence, size in
        report(to: sentence, size) {
          try autoreleasepool {
            try MetalDevice.at(context).run(UnsafeBufferPointer(start: commands, count: count))
          }
        }
      }
      blockffn_set_metal(&table)
    }

    private static func at(_ context: UnsafeMutableRawPointer?) -> MetalDevice {
      Unmanaged.fromOpaque(context!).takeUnretainedValue()
    }

    private func makeBuffer(
      _ bytes: UInt64, _ contents: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
    ) -> UnsafeMutableRawPointer? {
      guard let buffer = device.makeBuffer(length: Int(bytes), options: .storageModeShared) else { return nil }
      contents?.pointee = buffer.contents()
      return Unmanaged.passRetained(Held(buffer)).toOpaque()
    }

    /// Metal neither copies nor owns the pages. The library releases the buffer before the file is unmapped, and no
    /// command buffer is left that holds it: `run` waits, and drains its pool.
    private func mapBuffer(_ start: UnsafeRawPointer, _ bytes: UInt64) -> UnsafeMutableRawPointer? {
      let pages = UnsafeMutableRawPointer(mutating: start)  // kernels only read them
      let buffer = device.makeBuffer(
        bytesNoCopy: pages, length: Int(bytes), options: .storageModeShared, deallocator: nil)
      return buffer.map { Unmanaged.passRetained(Held($0)).toOpaque() }
    }

    private func makePipeline(_ source: String, _ name: String, threads: UInt32, tokens: UInt32) throws
      -> UnsafeMutableRawPointer
    {
      let options = MTLCompileOptions()
      // A token's result must not depend on its chunk, to the bit.
      if #available(iOS 18, macOS 15, *) { options.mathMode = .safe } else { options.fastMathEnabled = false }
      options.languageVersion = .version2_2  // what the sources are written in
      options.preprocessorMacros = [
        "BLOCKFFN_THREADS": NSString(string: "\(threads)u"), "BLOCKFFN_TOKENS": NSString(string: "\(tokens)u"),
      ]
      guard let function = try device.makeLibrary(source: source, options: options).makeFunction(name: name)
      else { throw Failure("Metal finds no kernel \(name) in its source") }
      let pipeline = try device.makeComputePipelineState(function: function)
      guard pipeline.maxTotalThreadsPerThreadgroup >= Int(threads) else {
        throw Failure("this GPU runs \(name) with fewer than \(threads) threads a group")
      }
      return Unmanaged.passRetained(Held(pipeline)).toOpaque()
    }

    private func run(_ commands: UnsafeBufferPointer<blockffn_metal_command>) throws {
      guard let buffer = queue.makeCommandBuffer() else { throw Failure("Metal makes no command buffer") }
      do {
        var encoders = Encoders(buffer)
        defer { encoders.end() }
        for command in commands { try encoders.encode(command) }
      }
      buffer.commit()
      buffer.waitUntilCompleted()
      guard buffer.status == .completed else {
        throw Failure("the GPU was lost (\(buffer.error?.localizedDescription ?? "Metal gives no reason"))")
      }
    }
  }

  /// The encoder of one command buffer that takes the next command: copies and dispatches need different ones, and
  /// Metal orders what different encoders do.
  private struct Encoders {
    private let buffer: any MTLCommandBuffer
    private var compute: (any MTLComputeCommandEncoder)?
    private var blit: (any MTLBlitCommandEncoder)?

    init(_ buffer: any MTLCommandBuffer) { self.buffer = buffer }

    mutating func end() {
      compute?.endEncoding()
      blit?.endEncoding()
      compute = nil
      blit = nil
    }

    mutating func encode(_ command: blockffn_metal_command) throws {
      let bytes = Int(command.bytes)
      switch Int(command.kind) {
      case Int(BLOCKFFN_METAL_CLEAR):
        let start = Int(command.to.offset)
        try copying().fill(buffer: command.to.metal, range: start..<start + bytes, value: 0)
      case Int(BLOCKFFN_METAL_COPY):
        try copying().copy(
          from: command.from.metal, sourceOffset: Int(command.from.offset), to: command.to.metal,
          destinationOffset: Int(command.to.offset), size: bytes)
      case Int(BLOCKFFN_METAL_BARRIER):
        compute?.memoryBarrier(scope: .buffers)
      default:
        dispatch(command, try computing())
      }
    }

    private func dispatch(_ command: blockffn_metal_command, _ encoder: any MTLComputeCommandEncoder) {
      encoder.setComputePipelineState(Held<any MTLComputePipelineState>.at(command.pipeline!))
      encoder.setBytes(command.push, length: Int(BLOCKFFN_METAL_PUSH_BYTES), index: 0)
      for i in 0..<Int(BLOCKFFN_METAL_BINDINGS) {
        let place = command.bindings[i]
        encoder.setBuffer(place.metal, offset: Int(place.offset), index: i + 1)
      }
      let threads = MTLSize(width: Int(command.threads), height: 1, depth: 1)
      if command.from.buffer != nil {
        encoder.dispatchThreadgroups(
          indirectBuffer: command.from.metal, indirectBufferOffset: Int(command.from.offset),
          threadsPerThreadgroup: threads)
      } else {
        let groups = command.groups
        encoder.dispatchThreadgroups(
          MTLSize(width: Int(groups.0), height: Int(groups.1), depth: Int(groups.2)),
          threadsPerThreadgroup: threads)
      }
    }

    private mutating func computing() throws -> any MTLComputeCommandEncoder {
      if let compute { return compute }
      end()
      // Concurrent: only the library's barriers order its dispatches.
      guard let made = buffer.makeComputeCommandEncoder(dispatchType: .concurrent) else {
        throw Failure("Metal makes no compute encoder")
      }
      compute = made
      return made
    }

    private mutating func copying() throws -> any MTLBlitCommandEncoder {
      if let blit { return blit }
      end()
      guard let made = buffer.makeBlitCommandEncoder() else { throw Failure("Metal makes no blit encoder") }
      blit = made
      return made
    }
  }

  extension blockffn_metal_place {
    fileprivate var metal: any MTLBuffer { Held<any MTLBuffer>.at(buffer) }
  }

  /// What the library keeps as a pointer.
  private final class Held<Value> {
    let value: Value
    init(_ value: Value) { self.value = value }

    static func at(_ pointer: UnsafeMutableRawPointer) -> Value {
      Unmanaged<Held<Value>>.fromOpaque(pointer).takeUnretainedValue().value
    }
  }

  private struct Failure: LocalizedError {
    let errorDescription: String?
    init(_ sentence: String) { errorDescription = sentence }
  }

  /// 0, or 1 with the error's sentence.
  private func report(
    to sentence: UnsafeMutablePointer<CChar>?, _ size: Int, _ body: () throws -> Void
  ) -> Int32 {
    do {
      try body()
      return 0
    } catch {
      let text = Array(error.localizedDescription.replacingOccurrences(of: "\n", with: " ").utf8.prefix(size - 1))
      for (i, byte) in text.enumerated() { sentence?[i] = CChar(bitPattern: byte) }
      sentence?[text.count] = 0
      return 1
    }
  }
#endif
