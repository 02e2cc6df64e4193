package org.blockffn

/** What computes a model. Where it cannot be the GPU it is the CPU, and [ModelInfo.device] says why. */
enum class Device(internal val word: String) {
    CPU("cpu"),
    /** Vulkan, if this device's GPU passes the self-test. Reads active experts only. */
    GPU("gpu"),
    /** Measure both while the model is opened, and keep the faster one. */
    AUTO("auto"),
}

/** How tokens are proposed before the model verifies them. The text is the same with any of them. */
enum class Speculation(internal val mode: Int, internal val width: Int) {
    /** One token a step. */
    OFF(0, 1),
    /** Decide by measured times and acceptance whether, and how far, proposing pays on this device. */
    AUTO(2, 3),
    /** One continuation a step. */
    CHAIN(1, 1),
    /** Several continuations of a token, verified in one chunk. */
    TREE(1, 3),
}

/** Who proposes. */
enum class Drafter(internal val code: Int) {
    /** The text so far, together with the draft head where the model has one. */
    BEST(0),
    /** What followed the end of the text earlier in it. */
    NGRAM(1),
    /** The draft head alone. */
    HEAD(2),
}

/**
 * @param maxTokens new tokens at most
 * @param draftTokens proposed tokens of a step at most, 1 to 63
 * @param temperature 0: always the most likely token
 * @param topK 0: off
 * @param topP 1: off
 * @param repetitionPenalty 1: off
 * @param allExperts read and compute every expert, as a dense model of equal size does: the same text, to compare speeds
 * @param seed the same seed gives the same text
 */
data class Options(
    val maxTokens: Int = 256,
    val speculation: Speculation = Speculation.AUTO,
    val drafter: Drafter = Drafter.BEST,
    val draftTokens: Int = 31,
    val temperature: Double = 0.0,
    val topK: Int = 0,
    val topP: Double = 1.0,
    val repetitionPenalty: Double = 1.0,
    val seed: Long = 0,
    val allExperts: Boolean = false,
) {
    internal fun ints() =
        intArrayOf(maxTokens, speculation.mode, draftTokens, speculation.width, topK, drafter.code, if (allExperts) 1 else 0)

    internal fun doubles() = doubleArrayOf(temperature, topP, repetitionPenalty)
}
