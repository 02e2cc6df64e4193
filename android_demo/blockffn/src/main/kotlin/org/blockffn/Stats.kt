package org.blockffn

enum class StoppedBy { NOTHING, END_OF_TEXT, MAX_TOKENS, CALLBACK, CANCELLED, CONTEXT_FULL, STOP_STRING }

/**
 * So far in a run: [expertsRead] of [expertsTotal] experts were read in [cycles] steps, layers summed up; [ttftMs]: time to the
 * first token, 0 until there is one.
 */
data class Progress(val tokens: Long, val cycles: Long, val expertsRead: Long, val expertsTotal: Long, val ttftMs: Double) {
    /** New tokens of a decoding step, of which the one under way is one: [cycles] counts it when it has ended. */
    val tokensPerCycle: Double get() = (tokens - 1).coerceAtLeast(0).toDouble() / (cycles + 1)

    /** As of [Stats]. */
    val shareRead: Double get() = if (expertsTotal > 0) expertsRead.toDouble() / expertsTotal else 0.0
}

/** Of one run. Times in milliseconds; [decodeMs] begins after the first token. */
data class Stats(
    val stoppedBy: StoppedBy,
    val promptTokens: Long,
    val reusedTokens: Long,
    val generatedTokens: Long,
    val cycles: Long,
    val draftedTokens: Long,
    val acceptedTokens: Long,
    val ttftMs: Double,
    val prefillMs: Double,
    val decodeMs: Double,
    val draftMs: Double,
    val verifyMs: Double,
    val otherMs: Double,
    val calibrateMs: Double,
    val peakRssBytes: Long,
    val prefillExpertsRead: Long,
    val prefillExpertsTotal: Long,
    /** chunksOf[T]: steps that ran T tokens at once. */
    val chunksOf: List<Long>,
    val expertsRead: Long,
    val expertsTotal: Long,
) {
    val tokensPerSecond: Double
        get() = if (decodeMs > 0 && generatedTokens > 1) (generatedTokens - 1) * 1000.0 / decodeMs else 0.0

    /** New tokens of a decoding step: 1 without speculation. */
    val tokensPerCycle: Double get() = if (cycles > 0) (generatedTokens - 1).coerceAtLeast(0).toDouble() / cycles else 0.0

    /** Share of the experts' weights that a decoding step reads, in 0..1. */
    val shareRead: Double get() = if (expertsTotal > 0) expertsRead.toDouble() / expertsTotal else 0.0

    internal companion object {
        private const val SIZES = 65  // chunks of 0 to 64 tokens

        /** From the array of blockffn_jni.cc. */
        fun of(v: DoubleArray): Stats {
            fun counts(i: Int) = v.slice(17 + i * SIZES until 17 + (i + 1) * SIZES).map { it.toLong() }
            return Stats(
                StoppedBy.entries.getOrElse(v[0].toInt()) { StoppedBy.NOTHING }, v[1].toLong(), v[2].toLong(), v[3].toLong(),
                v[4].toLong(), v[5].toLong(), v[6].toLong(), v[7], v[8], v[9], v[10], v[11], v[12], v[13], v[14].toLong(),
                v[15].toLong(), v[16].toLong(), counts(1), counts(2).sum(), counts(3).sum(),
            )
        }
    }
}

/**
 * @param chatTemplate "" where the model has none that the runner knows
 * @param kernels in use on this processor
 * @param device "cpu", "gpu NAME", or "cpu: " and why it is not the GPU that was asked for; after a choice by [Device.AUTO]
 *   with the times that it measured
 */
data class ModelInfo(
    val maxContext: Long,
    val vocabularySize: Long,
    val hiddenSize: Long,
    val chatTemplate: String,
    val kernels: String,
    val threads: Int,
    val hasDraftHead: Boolean,
    val device: String,
) {
    val onGpu: Boolean get() = device.startsWith("gpu")
}
