package org.blockffn

/** What the native side refused or could not do; [message] is its sentence, which names the fix where there is one. */
class BlockFFNException(val code: Int, message: String) : Exception(message) {
    /** The constructor that native code calls. */
    internal constructor(code: Int, utf8: ByteArray) : this(code, String(utf8, Charsets.UTF_8))

    companion object {
        const val BAD_ARGUMENT = 1
        /** A file is missing, damaged, of another version or of another model. */
        const val BAD_PROGRAM = 2
        /** The prompt does not fit into the model's context; nothing has run. */
        const val CONTEXT_FULL = 3
        /** A step failed; the model stays usable. */
        const val FAILED = 4
        const val BUSY = 5
        const val NO_MEMORY = 6
    }
}
