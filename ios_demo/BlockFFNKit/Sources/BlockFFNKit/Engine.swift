import CBlockFFN
import Dispatch
import Foundation

/// One loaded program with its context: generates text or tokens, streamed, with speculative decoding.
///
///     let engine = try await Engine.load(program: .url(pte), tokenizer: .url(tokenizer))
///     for try await event in engine.generate("To install the package,") {
///       if case .piece(let text) = event { print(text, terminator: "") }
///     }
///
/// The actor runs on a thread of its own, so native work never blocks Swift's shared threads. Generations
/// of one engine take turns; different engines run at once.
public actor Engine {
  /// What the program says about itself.
  public nonisolated let info: ModelInfo
  /// Where the program runs: "cpu", "gpu NAME", or "cpu: " and why the GPU that was asked for is not used.
  public nonisolated let device: String

  private let handle: NativeHandle
  private let executor: NativeExecutor
  private nonisolated let runs = RunList()

  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  private init(_ handle: NativeHandle, _ device: String, _ executor: NativeExecutor) {
    self.handle = handle
    self.device = device
    self.executor = executor
    info = ModelInfo(handle)
  }

  /// Maps a program and, for text, its tokenizer; a draft head proposes tokens better than look-up alone. One of
  /// another model is refused. A GPU is used only after it has passed a test of every operator against the
  /// processor; otherwise the program runs on the processor, and `device` says why. Throws `EngineError`.
  public static func load(
    program: ModelFile, tokenizer: ModelFile? = nil, tokenizerConfig: ModelFile? = nil, draftHead: ModelFile? = nil,
    on device: ComputeDevice? = nil
  ) async throws -> Engine {
    let executor = NativeExecutor()
    let (handle, ranOn) = try await executor.run {
      _ = useFastCores
      device?.prepare()
      blockffn_set_device(device?.rawValue)  // of this thread; without: what BLOCKFFN_DEVICE says, else the CPU
      defer { blockffn_set_device(nil) }
      let handle = try open(program)
      let ranOn = String(cString: blockffn_device())
      if let tokenizer {
        try tokenizer.withNative { tokenizer in
          try withOptional(tokenizerConfig) { config in
            try check(handle, blockffn_runner_load_tokenizer(handle.pointer, tokenizer, config))
          }
        }
      }
      if let draftHead {
        try draftHead.withNative { try check(handle, blockffn_runner_load_draft(handle.pointer, $0)) }
      }
      return (handle, ranOn)
    }
    return Engine(handle, ranOn, executor)
  }

  /// Continues a text. The last event is `finished`, unless the consuming task is cancelled, which ends the
  /// run within one cycle, as leaving the loop does. Generation ends before the first of the stop strings.
  public nonisolated func generate(
    _ prompt: String, options: GenerationOptions = .init(), stop: [String] = []
  ) -> GenerationStream<String> {
    stream { engine, output in
      try engine.generateText(prompt, options, stop, output)
    }
  }

  /// Answers as the assistant, by the model's chat template; see `ModelInfo.chatTemplate`.
  public nonisolated func chat(
    _ messages: [ChatMessage], options: GenerationOptions = .init(), stop: [String] = []
  ) -> GenerationStream<String> {
    stream { engine, output in
      try engine.generateChat(messages, options, stop, output)
    }
  }

  /// Continues token ids (bos included where the model has one), without a tokenizer.
  public nonisolated func generate(
    tokens: [Int32], options: GenerationOptions = .init()
  ) -> GenerationStream<Int32> {
    stream { engine, output in
      try engine.generateTokens(tokens, options, output)
    }
  }

  /// Ends all generations of this engine within one cycle; their streams finish with what there is.
  public nonisolated func stop() { runs.cancelAll() }

  /// Ids of a text, after the model's bos if asked for.
  public func encode(_ text: String, addBOS: Bool = true) throws -> [Int32] {
    var tokens = [Int32](repeating: 0, count: text.utf8.count + 1)
    var count: Int64 = 0
    var text = text
    try text.withUTF8 { bytes in
      try bytes.withMemoryRebound(to: CChar.self) { bytes in
        while true {
          let code = blockffn_runner_encode(
            handle.pointer, bytes.baseAddress, bytes.count, addBOS ? 1 : 0, &tokens, Int64(tokens.count),
            &count)
          try check(handle, code)
          if count <= tokens.count { break }
          tokens = [Int32](repeating: 0, count: Int(count))
        }
      }
    }
    return Array(tokens.prefix(Int(count)))
  }

  /// Forgets the context, and what automatic mode has measured.
  public func reset() throws { try check(handle, blockffn_runner_reset(handle.pointer)) }

  /// Size of the thread pool, which all engines share; not while one generates. The default are the fast
  /// cores of this device.
  public static func setThreads(_ threads: Int) throws {
    _ = useFastCores  // else the first load would undo this
    guard blockffn_set_threads(Int32(clamping: threads)) == 0 else {
      throw EngineError(.badArgument, "a pool of \(threads) threads is not possible; use at least 1")
    }
  }
}

// MARK: - Native calls

extension Engine {
  private func generateText(
    _ prompt: String, _ options: GenerationOptions, _ stop: [String], _ output: Output<String>
  ) throws {
    var native = options.native
    var prompt = prompt
    let code = try withCStrings(stop) { stop in
      prompt.withUTF8 { bytes in
        bytes.withMemoryRebound(to: CChar.self) { bytes in
          blockffn_runner_generate_text(
            handle.pointer, bytes.baseAddress, bytes.count, &native, stop.baseAddress, Int32(stop.count),
            receiveText, output.pointer)
        }
      }
    }
    try check(handle, code)
  }

  private func generateChat(
    _ messages: [ChatMessage], _ options: GenerationOptions, _ stop: [String], _ output: Output<String>
  ) throws {
    var native = options.native
    let code = try withCStrings(messages.flatMap { [$0.role.rawValue, $0.content] }) { texts in
      let messages = messages.indices.map {
        blockffn_message(role: texts[2 * $0], content: texts[2 * $0 + 1])
      }
      return try withCStrings(stop) { stop in
        blockffn_runner_generate_chat(
          handle.pointer, messages, Int32(messages.count), &native, stop.baseAddress, Int32(stop.count),
          receiveText, output.pointer)
      }
    }
    try check(handle, code)
  }

  private func generateTokens(
    _ tokens: [Int32], _ options: GenerationOptions, _ output: Output<Int32>
  ) throws {
    var native = options.native
    let code = blockffn_runner_generate(
      handle.pointer, tokens, Int64(tokens.count), &native,
      { user, token in Output<Int32>.at(user).receive(token) }, output.pointer)
    try check(handle, code)
  }

  private nonisolated func stream<Piece: Sendable>(
    _ body: @escaping @Sendable (isolated Engine, Output<Piece>) throws -> Void
  ) -> GenerationStream<Piece> {
    let run = Run(handle)
    runs.add(run)
    return AsyncThrowingStream { continuation in
      continuation.onTermination = { reason in
        if case .cancelled = reason { run.cancel() }
      }
      Task {
        await self.perform(run, Output(run, continuation), body)
      }
    }
  }

  private func perform<Piece>(
    _ run: Run, _ output: Output<Piece>, _ body: (isolated Engine, Output<Piece>) throws -> Void
  ) {
    defer { runs.remove(run) }
    do {
      var stats = GenerationStats()
      if run.begin() {
        defer { run.finish() }
        try body(self, output)
        var raw = blockffn_runner_stats()
        blockffn_runner_get_stats(handle.pointer, &raw)
        stats = GenerationStats(raw)
      }
      if run.isCancelled, stats.stop == .none || stats.stop == .callback { stats.stop = .cancelled }
      output.continuation.yield(.finished(stats))
      output.continuation.finish()
    } catch {
      output.continuation.finish(throwing: error)
    }
  }
}

/// Where the native callbacks put what they receive. The engine keeps it alive during the call.
private final class Output<Piece: Sendable>: Sendable {
  let run: Run
  let continuation: GenerationStream<Piece>.Continuation

  init(_ run: Run, _ continuation: GenerationStream<Piece>.Continuation) {
    self.run = run
    self.continuation = continuation
  }

  var pointer: UnsafeMutableRawPointer { Unmanaged.passUnretained(self).toOpaque() }

  static func at(_ pointer: UnsafeMutableRawPointer?) -> Output<Piece> {
    Unmanaged.fromOpaque(pointer!).takeUnretainedValue()
  }

  /// 0 to go on.
  func receive(_ piece: Piece) -> Int32 {
    if run.isCancelled { return 1 }
    continuation.yield(.piece(piece))
    return 0
  }
}

private let receiveText: blockffn_text_fn = { user, utf8, bytes in
  let text = String(decoding: UnsafeRawBufferPointer(start: utf8, count: bytes), as: UTF8.self)
  return Output<String>.at(user).receive(text)
}

/// Once per process, before the first program runs.
private let useFastCores: Void = {
  _ = blockffn_set_threads(blockffn_default_threads())
}()

private func open(_ program: ModelFile) throws -> NativeHandle {
  var sentence = [CChar](repeating: 0, count: 1024)
  var code: Int32 = 0
  let pointer = try program.withNative { blockffn_runner_load($0, &sentence, sentence.count, &code) }
  guard let pointer else {
    throw EngineError(code: code == 0 ? EngineError.Code.failed.rawValue : code, sentence: text(sentence))!
  }
  return NativeHandle(pointer)
}

private func check(_ handle: NativeHandle, _ code: Int32) throws {
  // The sentence of a busy runner belongs to the call that runs.
  let sentence =
    code == 0 || code == EngineError.Code.busy.rawValue
    ? "" : String(cString: blockffn_runner_last_error(handle.pointer))
  if let error = EngineError(code: code, sentence: sentence) { throw error }
}

private func text(_ characters: [CChar]) -> String {
  String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

private func withOptional<Result>(
  _ file: ModelFile?, _ body: (UnsafePointer<blockffn_file>?) throws -> Result
) throws -> Result {
  guard let file else { return try body(nil) }
  return try file.withNative(body)
}

/// Zero-terminated copies. A text with a zero in it cannot be passed on whole and is refused.
private func withCStrings<Result>(
  _ texts: [String], _ body: (UnsafeBufferPointer<UnsafePointer<CChar>?>) throws -> Result
) throws -> Result {
  if texts.contains(where: { $0.utf8.contains(0) }) {
    throw EngineError(.badArgument, "a message or stop string contains a zero character; remove it")
  }
  let copies = texts.map { strdup($0) }
  defer { copies.forEach { free($0) } }
  return try copies.map { UnsafePointer($0) }.withUnsafeBufferPointer(body)
}
