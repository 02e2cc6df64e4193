package org.blockffn.demo

import org.blockffn.Device
import org.blockffn.ModelInfo
import org.blockffn.Progress
import org.blockffn.Speculation
import org.blockffn.Stats

/** What the app is doing. */
sealed class Phase {
    object Idle : Phase()
    object Loading : Phase()
    object Running : Phase()
    object Stopping : Phase()
}

/** What the user should know about the last thing that happened. */
data class Notice(val text: String, val isError: Boolean)

/** How to sample and to speculate. */
data class Settings(
    val speculation: Speculation = Speculation.AUTO,
    val dense: Boolean = false,
    val maxTokens: Int = 160,
    val temperature: Double = 0.0,
    /** 0: off. Like [topP], only a temperature above 0 makes it matter. */
    val topK: Int = 0,
    val topP: Double = 0.9,
    val repetitionPenalty: Double = 1.0,
    val seed: Long = 1,
)

/**
 * All that a screen shows.
 * @param info of the open model; null where the next run opens another one, or it on another device
 * @param device the user's choice, which outlives the process
 * @param progress of the run, once it has a token; [tokensPerSecond] belongs to it
 * @param shares of each step the share of the experts that it read, in 0..1
 */
data class UiState(
    val models: List<ModelEntry>,
    val model: ModelEntry?,
    val info: ModelInfo? = null,
    val device: Device = Device.CPU,
    val phase: Phase = Phase.Idle,
    val settings: Settings = Settings(),
    val answer: String = "",
    val progress: Progress? = null,
    val tokensPerSecond: Double = 0.0,
    val stats: Stats? = null,
    val shares: List<Float> = emptyList(),
    val notice: Notice? = null,
    val thermal: Int = 0,
) {
    val busy get() = phase != Phase.Idle
    val hot get() = thermal >= 2  // PowerManager.THERMAL_STATUS_MODERATE
}
