import Foundation
import Metal
import Testing

@testable import BlockFFNKit

/// Programs on Metal: on a Mac the real one, on Linux the module of tests/ios/metal_stand_in. Loading with `.gpu` runs
/// the library's self-test first: every operator against the processor, in the program's precision, 20 times.
@Suite(.serialized) struct MetalTests {
  struct Golden: Decodable {
    struct Case: Decodable { let promptTokens: [Int32], tokens: [Int32] }
    let cases: [Case]
  }
  static let folder = URL(fileURLWithPath: ProcessInfo.processInfo.environment["BLOCKFFN_TEST_MODEL"]!)
  static let program = folder.appendingPathComponent("model-int8.pte")

  static func golden() throws -> Golden {
    try JSONDecoder().decode(Golden.self, from: Data(contentsOf: folder.appendingPathComponent("golden.json")))
  }

  @Test func aTextOnTheGPUIsTheProcessors() async throws {
    let golden = try Self.golden()
    let engine = try await Engine.load(program: .url(Self.program), on: .gpu)
    let metal = try #require(MTLCreateSystemDefaultDevice())
    #expect(engine.device == "gpu \(metal.name)")
    let one = try #require(golden.cases.last)
    var options = GenerationOptions()
    options.mode = .plain
    options.maxTokens = 3
    let (tokens, stats) = try await engine.generate(tokens: one.promptTokens, options: options).collect()
    #expect(tokens == Array(one.tokens.prefix(3)))
    #expect(try #require(stats?.expertsRead) > 0 && stats!.expertsRead! < 1)
  }

  @Test func withoutAWishTheProcessorIsUsed() async throws {
    let engine = try await Engine.load(program: .url(Self.program))
    #expect(engine.device == "cpu")
  }

  static let precisions = ["fp32", "int8", "int4"]
  /// A small program of random weights.
  static func small(_ precision: String) -> URL { folder.appendingPathComponent("precisions/model-\(precision).pte") }

  func tokens(_ engine: Engine, _ count: Int) async throws -> [Int32] {
    var options = GenerationOptions()
    options.mode = .plain
    options.maxTokens = count
    return try await engine.generate(tokens: [1, 2, 3, 4, 5], options: options).collect().pieces
  }

  @Test(arguments: precisions)
  func everyPrecisionPassesTheSelfTestAndRuns(_ precision: String) async throws {
    #if METAL_STAND_IN
      StandIn.fault = .none
      MetalDevice.lend()
    #endif
    let engine = try await Engine.load(program: .url(Self.small(precision)), on: .gpu)
    let metal = try #require(MTLCreateSystemDefaultDevice())
    #expect(engine.device == "gpu \(metal.name)")
    let onGPU = try await tokens(engine, 8)
    #expect(!onGPU.isEmpty)
    if precision == "fp32" {  // the processor rounds activations for the others
      let processor = try await Engine.load(program: .url(Self.small(precision)), on: .cpu)
      let onProcessor = try await tokens(processor, 8)
      #expect(onGPU == onProcessor)
    }
  }

  @Test func automaticSaysWhatItMeasured() async throws {
    let engine = try await Engine.load(program: .url(Self.small("int8")), on: .auto)
    #expect(engine.device.contains("(ms for 1, 8, 32, 64 tokens: cpu "), "\(engine.device)")
    #if METAL_STAND_IN
      #expect(engine.device.hasPrefix("cpu: it is faster here (ms for"))  // kernels on one thread of the processor
    #endif
    let some = try await tokens(engine, 4)
    #expect(!some.isEmpty)
  }

  #if METAL_STAND_IN
    /// A device with a fault, lent anew.
    func load(
      _ fault: StandIn.Fault, _ program: URL = program, on device: ComputeDevice = .gpu
    ) async throws -> Engine {
      StandIn.fault = fault
      MetalDevice.lend()
      return try await Engine.load(program: .url(program), on: device)
    }

    @Test(arguments: precisions)
    func oneWrongBitIsSeenInEveryPrecision(_ precision: String) async throws {
      for device in [ComputeDevice.gpu, .auto] {
        let engine = try await load(.wrongBit, Self.small(precision), on: device)
        #expect(engine.device == "cpu: the GPU computes wrong numbers (its self-test failed)")
        let some = try await tokens(engine, 2)
        #expect(!some.isEmpty)
      }
    }

    @Test(arguments: [
      (StandIn.Fault.ignoresBarriers, "cpu: the GPU computes wrong numbers (its self-test failed)"),
      (.wrongBit, "cpu: the GPU computes wrong numbers (its self-test failed)"),
      (.noMemory, "cpu: the GPU has not enough memory"),
      (.noCompiler, "cpu: program_source:1:1: error: planted"),
    ])
    func aFaultyGPULeavesTheProcessorAndSaysWhy(_ fault: StandIn.Fault, _ device: String) async throws {
      let engine = try await load(fault)
      #expect(engine.device == device)
      var options = GenerationOptions()
      options.maxTokens = 2
      let tokens = try await engine.generate(tokens: [1, 2, 3], options: options).collect().pieces
      #expect(tokens.count == 2)
    }

    @Test func aLostGPUHandsOverToTheProcessor() async throws {
      let engine = try await load(.lost)
      #expect(engine.device.hasPrefix("cpu: the GPU was lost"))
    }
  #endif
}
