package org.blockffn

/**
 * The functions of `blockffn_jni.cc`. Text is UTF-8 in byte arrays. A handle is not safe to use from two threads, except
 * by [cancel]; [BlockFFN] sees to that.
 */
internal object Native {
    init {
        System.loadLibrary("blockffn_jni")
    }

    /** Called in the middle of [generate] and [generateTokens], by their thread. False ends the run. */
    abstract class Listener {
        open fun onText(utf8: ByteArray, tokens: Long, cycles: Long, expertsRead: Long, expertsTotal: Long, ttftMs: Double): Boolean = true

        open fun onToken(id: Int): Boolean = true
    }

    @JvmStatic external fun load(path: ByteArray?, fd: Int, offset: Long, bytes: Long, device: ByteArray): Long

    @JvmStatic external fun release(handle: Long)

    @JvmStatic external fun loadTokenizer(
        handle: Long, path: ByteArray?, fd: Int, offset: Long, bytes: Long,
        hasConfig: Boolean, configPath: ByteArray?, configFd: Int, configOffset: Long, configBytes: Long,
    )

    @JvmStatic external fun loadDraft(handle: Long, path: ByteArray?, fd: Int, offset: Long, bytes: Long)

    @JvmStatic external fun encode(handle: Long, text: ByteArray, addBos: Boolean): IntArray

    @JvmStatic external fun generate(
        handle: Long, roles: Array<ByteArray>?, contents: Array<ByteArray>, ints: IntArray, doubles: DoubleArray, seed: Long,
        stops: Array<ByteArray>, listener: Listener,
    )

    @JvmStatic external fun generateTokens(
        handle: Long, prompt: IntArray, ints: IntArray, doubles: DoubleArray, seed: Long, listener: Listener,
    )

    @JvmStatic external fun cancel(handle: Long)

    @JvmStatic external fun reset(handle: Long)

    @JvmStatic external fun stats(handle: Long): DoubleArray

    @JvmStatic external fun info(handle: Long): LongArray

    @JvmStatic external fun chatTemplate(handle: Long): ByteArray

    @JvmStatic external fun kernels(): ByteArray

    /** Where what this thread loaded last runs, and why. */
    @JvmStatic external fun device(): ByteArray

    @JvmStatic external fun setCache(folder: ByteArray)

    @JvmStatic external fun setThreads(threads: Int): Int
}
