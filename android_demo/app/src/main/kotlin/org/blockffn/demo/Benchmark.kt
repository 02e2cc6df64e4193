package org.blockffn.demo

import android.content.Context
import android.os.Build
import org.blockffn.BlockFFN
import org.blockffn.ModelInfo
import org.blockffn.Options
import org.blockffn.Speculation
import org.blockffn.Stats
import org.json.JSONArray
import org.json.JSONObject
import java.util.Locale

/** One column of the comparison. */
data class Case(val name: String, val model: ModelEntry, val allExperts: Boolean, val speculation: Speculation)

/** All runs of a case. The figures are medians. */
data class Result(val case: Case, val runs: List<Stats>) {
    val speeds = runs.map { it.tokensPerSecond }.sorted()
    val speed get() = median(speeds)
    val ttftMs get() = median(runs.map { it.ttftMs })
    val shareRead get() = median(runs.map { it.shareRead })
    val tokensPerCycle get() = median(runs.map { it.tokensPerCycle })
}

/** [hottest]: thermal status at its worst, seen after every run; null where the device does not say. */
data class Report(val results: List<Result>, val before: DeviceState, val after: DeviceState, val info: ModelInfo, val hottest: Int?) {
    val throttled get() = (hottest ?: 0) > 0
}

fun median(values: List<Double>): Double {
    val sorted = values.sorted()
    if (sorted.isEmpty()) return 0.0
    return (sorted[(sorted.size - 1) / 2] + sorted[sorted.size / 2]) / 2
}

/**
 * The comparison that the paper is about: all experts read, as a dense model does, and the active ones alone, each with and
 * without speculation; the text is the same. The cases run in turn, so that a device that grows hot slows them alike; a first round warms up and is not counted.
 */
class Benchmark(private val context: Context, private val session: Session, private val rounds: Int, private val tokens: Int) {
    @Volatile private var cancelled = false
    @Volatile private var engine: BlockFFN? = null

    /** All experts are read on the CPU alone, and a CPU's figures beside a GPU's would compare processors. */
    fun cases(model: ModelEntry, info: ModelInfo): List<Case> {
        val speculation = context.getString(R.string.speculation).lowercase(Locale.ROOT)
        return listOf(true, false).filter { all -> !(all && info.onGpu) }.flatMap { all ->
            val kind = context.getString(if (all) R.string.dense else R.string.sparse)
            listOf(Case(kind, model, all, Speculation.OFF), Case("$kind + $speculation", model, all, Speculation.AUTO))
        }
    }

    fun cancel() {
        cancelled = true
        engine?.cancel()
    }

    /** [progress] and [done] are called by the session's worker, [failed] on the main thread. */
    fun start(progress: (Int, Int, String) -> Unit, done: (Report) -> Unit, failed: (String) -> Unit) {
        val model = session.state.model ?: return
        session.withModel(model, { engine ->
            this.engine = engine
            val before = DeviceState.now(context)
            var hottest = before.thermal
            val cases = cases(model, engine.info)
            val runs = cases.associateWith { ArrayList<Stats>() }
            for (round in 0..rounds) {
                for (case in cases) {
                    if (cancelled) return@withModel
                    progress(round, rounds + 1, case.name)
                    engine.reset()
                    val options = Options(maxTokens = tokens, speculation = case.speculation, allExperts = case.allExperts)
                    val stats = engine.generate(context.getString(R.string.prompt_default), options) { _, _ -> !cancelled }
                    hottest = listOfNotNull(hottest, DeviceState.thermal(context)).maxOrNull()
                    if (round > 0 && !cancelled) runs.getValue(case).add(stats)
                }
            }
            if (!cancelled) {
                done(Report(runs.map { Result(it.key, it.value) }, before, DeviceState.now(context), engine.info, hottest))
            }
        }, failed)
    }
}

/** With units in the names; every run is in it, so that somebody else can take another statistic. */
fun Report.toJson(): JSONObject {
    fun state(s: DeviceState) = JSONObject().put("battery_percent", s.batteryPercent ?: JSONObject.NULL)
        .put("battery_celsius", s.batteryCelsius ?: JSONObject.NULL).put("big_core_mhz", s.bigCoreMhz ?: JSONObject.NULL)
        .put("thermal_status", s.thermal ?: JSONObject.NULL)
    return JSONObject()
        .put("format", 1).put("device", "${Build.MANUFACTURER} ${Build.MODEL}").put("android", Build.VERSION.RELEASE)
        .put("sdk", Build.VERSION.SDK_INT).put("abis", JSONArray(Build.SUPPORTED_ABIS.toList()))
        .put("kernels", info.kernels).put("threads", info.threads).put("runs_on", info.device).put("before", state(before)).put("after", state(after)).put("thermal_status_worst", hottest ?: JSONObject.NULL)
        .put("cases", JSONArray(results.map { r ->
            JSONObject().put("name", r.case.name).put("model", r.case.model.id)
                .put("experts", if (r.case.allExperts) "all" else "active").put("speculation", r.case.speculation.name.lowercase(Locale.ROOT))
                .put("tokens_per_s_median", r.speed).put("tokens_per_s_min", r.speeds.first()).put("tokens_per_s_max", r.speeds.last())
                .put("ttft_ms_median", r.ttftMs).put("share_read_median", r.shareRead).put("tokens_per_cycle_median", r.tokensPerCycle)
                .put("runs", JSONArray(r.runs.map { s ->
                    JSONObject().put("prompt_tokens", s.promptTokens).put("generated_tokens", s.generatedTokens).put("cycles", s.cycles)
                        .put("ttft_ms", s.ttftMs).put("decode_ms", s.decodeMs).put("calibrate_ms", s.calibrateMs)
                        .put("tokens_per_s", s.tokensPerSecond).put("share_read", s.shareRead).put("peak_rss_bytes", s.peakRssBytes)
                }))
        }))
}
