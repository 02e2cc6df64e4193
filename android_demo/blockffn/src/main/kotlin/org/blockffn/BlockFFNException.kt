package org.blockffn

/** What the native side refused or could not do; [message] is its sentence, which names the fix where there is one. */
class BlockFFNException(val reason: Reason, message: String) : Exception(message) {
    /** The constructor that native code calls. */
    internal constructor(code: Int, utf8: ByteArray) :
        this(Reason.entries.firstOrNull { it.code == code } ?: Reason.FAILED, String(utf8, Charsets.UTF_8))

    /** [code]: as in blockffn_runner.h. */
    enum class Reason(internal val code: Int) {
        BAD_ARGUMENT(1),
        /** A file is missing, damaged, of another version or of another model. */
        BAD_PROGRAM(2),
        /** The prompt does not fit into the model's context; nothing has run. */
        CONTEXT_FULL(3),
        /** A step failed; the model stays usable. */
        FAILED(4),
        BUSY(5),
        NO_MEMORY(6),
    }
}
