#if METAL_STAND_IN
  import Foundation
  import Metal
  import Testing

  @testable import BlockFFNKit

  /// What weights on the GPU cost in memory, and `.auto` with slow processor kernels. A process of its own runs these:
  /// its anonymous pages are counted, and its environment is changed.
  @Suite(.serialized) struct MetalMemoryTests {
    private struct Outcome {
      var tokens: [Int32] = []
      /// The bytes that the steps copied: logits, hidden states and results.
      var bits = 0
      /// Of the loaded program: the GPU's own buffers, and those over the file.
      var own = 0, mapped = 0
      /// Growth of the process's anonymous memory while loading.
      var anonymous = 0
    }

    private func run(_ fault: StandIn.Fault) async throws -> Outcome {
      StandIn.fault = fault
      MetalDevice.lend()
      var outcome = Outcome()
      let before = try anonymousBytes()
      let engine = try await Engine.load(program: .url(MetalTests.program), on: .gpu)
      #expect(engine.device == "gpu stand-in none")
      outcome.anonymous = try anonymousBytes() - before
      (outcome.own, outcome.mapped) = (StandIn.ownBytes, StandIn.mappedBytes)
      StandIn.copied = Hasher()
      var options = GenerationOptions()
      options.mode = .plain
      options.maxTokens = 3
      let prompt = try #require(MetalTests.golden().cases.last).promptTokens
      outcome.tokens = try await engine.generate(tokens: prompt, options: options).collect().pieces
      outcome.bits = StandIn.copied.finalize()
      return outcome
    }

    @Test func weightsOfAMappedFileAreReadWhereTheyLie() async throws {
      // M_MMAP_THRESHOLD: what is freed goes back to the system, not to the next run. Swift's Glibc lacks the name.
      let mallopt = unsafeBitCast(dlsym(nil, "mallopt"), to: (@convention(c) (Int32, Int32) -> Int32).self)
      #expect(mallopt(-3, 1 << 16) == 1)
      _ = try await run(.none)  // the self-test, pipelines, caches of the process
      try await eventually { StandIn.mappedBytes == 0 && StandIn.ownBytes == 0 }
      let mapped = try await run(.none)
      try await eventually { StandIn.mappedBytes == 0 && StandIn.ownBytes == 0 }  // no buffer outlives its file
      let copied = try await run(.noMapping)
      try await eventually { StandIn.ownBytes == 0 }

      let file = try Data(contentsOf: MetalTests.program, options: .alwaysMapped).count
      let weights = copied.own - mapped.own
      print("weights \(weights) of \(file) bytes")
      print("anonymous memory \(copied.anonymous) copied, \(mapped.anonymous) mapped")
      #expect(copied.mapped == 0 && mapped.mapped > weights * 99 / 100 && mapped.mapped < file + 2 * 65536)
      #expect(weights > file * 9 / 10)
      #expect(copied.anonymous - mapped.anonymous > weights * 9 / 10)
      #expect(copied.tokens.count == 3 && mapped.tokens == copied.tokens && mapped.bits == copied.bits)
    }

    @Test func automaticTakesAFasterGPU() async throws {
      _ = try await run(.none)  // its self-test is passed with kernels that compute
      setenv("BLOCKFFN_KERNELS", "portable", 1)
      defer { unsetenv("BLOCKFFN_KERNELS") }
      StandIn.skipsKernels = true
      let engine = try await Engine.load(program: .url(MetalTests.program), on: .auto)
      StandIn.skipsKernels = false
      #expect(engine.device.hasPrefix("gpu stand-in none (ms for 1, 8, 32, 64 tokens: cpu "), "\(engine.device)")
      let one = try #require(MetalTests.golden().cases.last)
      var options = GenerationOptions()
      options.mode = .plain
      options.maxTokens = 3
      let tokens = try await engine.generate(tokens: one.promptTokens, options: options).collect().pieces
      #expect(tokens == Array(one.tokens.prefix(3)))  // nothing of the measurement is left in the caches
    }

    @Test func theStandInSeesMemoryThatMetalWouldRefuse() throws {
      let page = Int(sysconf(Int32(_SC_PAGESIZE)))
      let file = open(MetalTests.program.path, O_RDONLY)
      defer { close(file) }
      let mapping = try #require(mmap(nil, 4 * page, PROT_READ, MAP_SHARED, file, 0))
      #expect(StandIn.refusal(mapping, 4 * page) == nil)
      #expect(StandIn.refusal(mapping + page, page) == nil)
      #expect(StandIn.refusal(mapping + 64, page)?.contains("begin at a page") == true)
      #expect(StandIn.refusal(mapping, page + 64)?.contains("whole pages") == true)
      #expect(StandIn.refusal(mapping, 5000 * page)?.contains("beyond the end") == true)
      munmap(mapping, 4 * page)
      #expect(StandIn.refusal(mapping, page) != nil)
      let own = UnsafeMutableRawPointer.allocate(byteCount: 64 * page, alignment: page)
      defer { own.deallocate() }
      #expect(StandIn.refusal(own, page)?.contains("no file") == true)
    }

    private func anonymousBytes() throws -> Int {
      let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
      let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("RssAnon:") })
      return try #require(Int(line.split(separator: " ", omittingEmptySubsequences: true)[1])) * 1024
    }

    /// An engine that was let go is freed by the last of its tasks.
    private func eventually(_ condition: () -> Bool) async throws {
      for _ in 0..<2000 where !condition() { try await Task.sleep(for: .milliseconds(1)) }
      #expect(condition())
    }
  }
#endif
