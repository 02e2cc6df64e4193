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

  #if METAL_STAND_IN
    /// A device with a fault, lent anew.
    func load(_ fault: StandIn.Fault) async throws -> Engine {
      StandIn.fault = fault
      MetalDevice.lend()
      return try await Engine.load(program: .url(Self.program), on: .gpu)
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
