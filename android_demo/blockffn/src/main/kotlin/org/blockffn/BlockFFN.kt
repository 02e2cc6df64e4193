package org.blockffn

import java.io.Closeable
import java.io.File
import java.util.concurrent.Callable
import java.util.concurrent.ExecutionException
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors
import java.util.concurrent.RejectedExecutionException
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicBoolean

/**
 * An open model. Calls block: make them from a worker thread, or in coroutines on Dispatchers.IO.
 *
 *     BlockFFN.open(ModelFile.asset(context, "model.pte"), ModelFile.asset(context, "tokenizer.json")).use { model ->
 *         val stats = model.generate("To install the package,") { text, _ -> print(text); true }
 *     }
 *
 * The native handle belongs to one thread, which runs all calls in turn: a model has one context, and its caches are
 * written in place. Only [cancel] goes past that thread. An interrupted caller cancels its run. A callback is in the middle
 * of a run, and may call nothing but [cancel] and [close].
 */
class BlockFFN private constructor() : Closeable {
    private val lock = Any()
    private var handle = 0L  // 0 once closed; guarded by lock, since cancel comes from any thread
    @Volatile private var closing = false
    @Volatile private var own: Thread? = null
    private val thread: ExecutorService = Executors.newSingleThreadExecutor { work -> Thread(work, "BlockFFN").also { own = it } }

    /** What is known of the open model. */
    lateinit var info: ModelInfo
        private set

    /** Receives whole characters as they are decided, on the model's thread. False ends the run. */
    fun interface OnText {
        fun text(text: String, progress: Progress): Boolean
    }

    /** Receives the id of every new token on the model's thread. False ends the run. */
    fun interface OnToken {
        fun token(id: Int): Boolean
    }

    /** [role]: "system", "user" or "assistant". */
    data class Message(val role: String, val content: String)

    /**
     * Continues a text.
     * @throws BlockFFNException with the reason; the model stays usable
     */
    fun generate(prompt: String, options: Options = Options(), stop: List<String> = emptyList(), onText: OnText): Stats =
        run(null, arrayOf(prompt.utf8()), options, stop, onText)

    /** Answers a conversation, where the model has a chat template ([ModelInfo.chatTemplate]). */
    fun chat(messages: List<Message>, options: Options = Options(), stop: List<String> = emptyList(), onText: OnText): Stats =
        run(messages.utf8 { it.role }, messages.utf8 { it.content }, options, stop, onText)

    /** Continues token ids, the first of which is the model's start-of-text token where it has one. */
    fun generateTokens(prompt: IntArray, options: Options = Options(), onToken: OnToken): Stats = onThread { handle ->
        var thrown: Throwable? = null
        Native.generateTokens(handle, prompt, options.ints(), options.doubles(), options.seed, object : Native.Listener() {
            override fun onToken(id: Int): Boolean = try {
                onToken.token(id)
            } catch (error: Throwable) {
                thrown = error
                false
            }
        })
        thrown?.let { throw it }
        Stats.of(Native.stats(handle))
    }

    /** The ids of a text. */
    fun encode(text: String, startOfText: Boolean = true): IntArray =
        onThread { handle -> Native.encode(handle, text.utf8(), startOfText) }

    /** Ends the running call within one step; from any thread. Without one: no effect. */
    fun cancel() {
        synchronized(lock) { if (handle != 0L) Native.cancel(handle) }
    }

    /** Forgets the context and what [Speculation.AUTO] has measured. */
    fun reset() = onThread { handle -> Native.reset(handle) }

    /** Ends the running call, refuses those that wait for it, and frees the model. Closing twice is allowed. */
    override fun close() {
        closing = true
        cancel()
        try {
            thread.execute {
                val old = synchronized(lock) { handle.also { handle = 0 } }
                if (old != 0L) Native.release(old)
            }
        } catch (closed: RejectedExecutionException) {
            return
        }
        thread.shutdown()
        if (Thread.currentThread() !== own) thread.awaitTermination(CLOSE_SECONDS, TimeUnit.SECONDS)
    }

    private fun run(
        roles: Array<ByteArray>?, contents: Array<ByteArray>, options: Options, stop: List<String>, onText: OnText,
    ): Stats = onThread { handle ->
        // A callback's exception must not cross native code: it is kept, and thrown when the run has ended.
        var thrown: Throwable? = null
        val stops = stop.utf8 { it }
        Native.generate(handle, roles, contents, options.ints(), options.doubles(), options.seed, stops, object : Native.Listener() {
            override fun onText(
                utf8: ByteArray, tokens: Long, cycles: Long, expertsRead: Long, expertsTotal: Long, ttftMs: Double,
            ): Boolean = try {
                onText.text(String(utf8, Charsets.UTF_8), Progress(tokens, cycles, expertsRead, expertsTotal, ttftMs))
            } catch (error: Throwable) {
                thrown = error
                false
            }
        })
        thrown?.let { throw it }
        Stats.of(Native.stats(handle))
    }

    private fun <T> onThread(body: (Long) -> T): T {
        check(Thread.currentThread() !== own) { "a callback called the model, which waits for the callback: return first" }
        val begun = AtomicBoolean()
        val task = try {
            thread.submit(Callable {
                check(begun.compareAndSet(false, true)) { "nobody waits for this call" }
                body(synchronized(lock) { handle }.also { check(it != 0L && !closing) { CLOSED } })
            })
        } catch (closed: RejectedExecutionException) {
            throw IllegalStateException(CLOSED)
        }
        try {
            return task.get()
        } catch (error: ExecutionException) {
            throw error.cause!!
        } catch (interrupted: InterruptedException) {
            // A call that still waits its turn has no run, and cancel would end the one that it waits for.
            if (!begun.compareAndSet(false, true) && !task.isDone) cancel()
            throw interrupted
        }
    }

    companion object {
        private const val CLOSE_SECONDS = 10L
        private const val CLOSED = "this model is closed"

        /**
         * Maps the files and checks them.
         * @param tokenizer `tokenizer.json`
         * @param tokenizerConfig `tokenizer_config.json`, which names the chat template
         * @param draft a draft head that was made for this model
         * @param threads of the pool that all models of a process share; the first model sets it. 0: as many as this
         *   processor has fast cores
         * @param device of the model and of its draft head
         * @param cache where to keep the GPU's self-test and what its driver compiled, for example `context.codeCacheDir`; without
         *   one, every process that asks for the GPU tests and compiles anew
         * @throws BlockFFNException with the reason
         */
        @JvmOverloads
        fun open(
            program: ModelFile, tokenizer: ModelFile, tokenizerConfig: ModelFile? = null, draft: ModelFile? = null, threads: Int = 0,
            device: Device = Device.CPU, cache: File? = null,
        ): BlockFFN {
            val model = BlockFFN()
            try {
                model.thread.submit(Callable { model.load(program, tokenizer, tokenizerConfig, draft, threads, device, cache) }).get()
            } catch (error: ExecutionException) {
                model.close()
                throw error.cause!!
            } catch (interrupted: InterruptedException) {
                model.close()
                throw interrupted
            }
            return model
        }

        private var pool = 0

        /** The pool may not change while a model runs, so it is set once. */
        @Synchronized
        private fun poolThreads(threads: Int): Int {
            if (pool == 0) pool = Native.setThreads(threads)
            return pool
        }

        @Synchronized
        private fun keepIn(cache: File) {
            cache.mkdirs()
            Native.setCache(cache.path.utf8())
        }

        /** Name of the kernels that this processor runs, for example "i8mm". */
        fun kernels(): String = String(Native.kernels(), Charsets.UTF_8)
    }

    private fun load(
        program: ModelFile, tokenizer: ModelFile, config: ModelFile?, draft: ModelFile?, threads: Int, device: Device, cache: File?,
    ) {
        val used = poolThreads(threads)
        if (device != Device.CPU && cache != null) keepIn(cache)
        val loaded = Native.load(program.path, program.fd, program.offset, program.bytes, device.word.utf8())
        val runsOn = String(Native.device(), Charsets.UTF_8)  // before the draft head is loaded
        synchronized(lock) { handle = loaded }
        Native.loadTokenizer(
            loaded, tokenizer.path, tokenizer.fd, tokenizer.offset, tokenizer.bytes, config != null, config?.path,
            config?.fd ?: -1, config?.offset ?: 0, config?.bytes ?: 0,
        )
        if (draft != null) Native.loadDraft(loaded, draft.path, draft.fd, draft.offset, draft.bytes)
        val values = Native.info(loaded)
        info = ModelInfo(values[0], values[1], values[2], String(Native.chatTemplate(loaded), Charsets.UTF_8), kernels(), used, values[5] != 0L, runsOn)
    }
}

private fun String.utf8() = toByteArray(Charsets.UTF_8)

private fun <T> List<T>.utf8(text: (T) -> String): Array<ByteArray> = Array(size) { text(this[it]).utf8() }
