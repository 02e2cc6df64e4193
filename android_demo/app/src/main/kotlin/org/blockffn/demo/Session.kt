package org.blockffn.demo

import android.content.ComponentCallbacks2
import android.content.Context
import android.net.Uri
import android.os.Handler
import android.os.Looper
import android.os.PowerManager
import android.os.SystemClock
import org.blockffn.BlockFFN
import org.blockffn.BlockFFNException
import org.blockffn.Device
import org.blockffn.Drafter
import org.blockffn.Options
import org.blockffn.Progress
import org.blockffn.Speculation
import org.blockffn.StoppedBy
import java.util.concurrent.Executors

/**
 * The open model and its run. [state] changes on the main thread only, where [observer] hears of it; a worker thread
 * opens the model and waits for its runs.
 */
class Session(private val context: Context) {
    private val kept = Kept(context)
    val models = Models(context, kept)
    private val main = Handler(Looper.getMainLooper())
    private val worker = Executors.newSingleThreadExecutor { Thread(it, "session") }
    @Volatile private var open: BlockFFN? = null
    private var openAs: Pair<String, Device>? = null  // worker's: of which entry, and for which device
    private var reasonToStop: String? = null
    @Volatile private var stopping = false
    private var wantedModel: String? = null  // of a killed process, until the list is there

    /** Ends what uses the model by [withModel], for a reason. */
    var interrupt: ((String) -> Unit)? = null

    val isOpen get() = open != null

    var observer: ((UiState) -> Unit)? = null
        set(value) {
            field = value
            value?.invoke(state)
        }

    /** The list of models comes in a moment: it is read from files. */
    var state: UiState = UiState(emptyList(), null)
        private set(value) {
            field = value
            observer?.invoke(value)
        }

    init {
        val power = context.getSystemService(Context.POWER_SERVICE) as PowerManager
        NewerApi.watchThermal(power) { status -> main.post { state = state.copy(thermal = status) } }
        worker.execute { recall() }
    }

    /** What the user chose in an earlier process, unless that choice has ended it. */
    private fun recall() {
        val crashed = kept.gpuAtWork
        if (crashed) {
            kept.device = Device.CPU
            kept.gpuAtWork = false
        }
        val device = kept.device
        val found = models.list()
        main.post {
            listed(found)
            state = state.copy(
                device = device, notice = if (crashed) Notice(context.getString(R.string.gpu_ended_the_app), true) else state.notice,
            )
        }
    }

    fun device(chosen: Device) {
        if (state.busy || chosen == state.device) return
        state = state.copy(device = chosen, info = null)
        worker.execute { kept.device = chosen }
    }

    fun settings(change: Settings.() -> Settings) {
        state = state.copy(settings = state.settings.change())
    }

    fun select(model: ModelEntry) {
        if (model == state.model || state.busy) return
        state = state.copy(model = model, info = null, notice = null, stats = null)
    }

    /** Adds a file from the picker, and chooses it. */
    fun pick(uri: Uri) = background({ models.picked(uri) }) { entry, sentence ->
        if (entry == null) {
            state = state.copy(notice = Notice(sentence!!, true))
        } else {
            state = state.copy(models = state.models.filter { it.id != entry.id } + entry)
            select(entry)
        }
    }

    /** Looks again for models that were pushed since. */
    fun refresh() = background({ models.list() }) { found, _ -> if (found != null) listed(found) }

    private fun listed(found: List<ModelEntry>) {
        val all = found + state.models.filter { old -> old.source is Source.Picked && found.none { it.id == old.id } }
        val model = all.firstOrNull { it.id == wantedModel } ?: state.model?.takeIf { it in all } ?: all.firstOrNull()
        wantedModel = null
        if (all.isEmpty()) state = state.copy(notice = Notice(context.getString(R.string.no_model), true))
        if (all != state.models || model != state.model) state = state.copy(models = all, model = model)
    }

    /** [work] by the worker, then [done] on the main thread with its result, or null and a sentence. */
    fun <T : Any> background(work: () -> T, done: (T?, String?) -> Unit) = worker.execute {
        try {
            val result = work()
            main.post { done(result, null) }
        } catch (error: Exception) {
            val sentence = sentence(error)
            main.post { done(null, sentence) }
        }
    }

    /** What a killed process had on its screen. */
    fun restore(answer: String, settings: Settings, modelId: String?, wasRunning: Boolean) {
        if (state.busy || state.answer.isNotEmpty()) return
        if (state.models.isEmpty()) wantedModel = modelId
        state = state.copy(
            answer = answer, settings = settings, model = state.models.firstOrNull { it.id == modelId } ?: state.model,
            notice = if (wasRunning) Notice(context.getString(R.string.interrupted), false) else state.notice,
        )
    }

    fun generate(prompt: String) {
        val model = state.model
        if (state.busy || model == null) return
        val s = state.settings
        val options = Options(
            maxTokens = s.maxTokens, speculation = s.speculation, drafter = drafterOf(s.speculation), temperature = s.temperature,
            topK = if (s.temperature > 0) s.topK else 0, topP = if (s.temperature > 0) s.topP else 1.0, repetitionPenalty = s.repetitionPenalty, seed = s.seed,
            allExperts = s.dense,
        )
        reasonToStop = null
        stopping = false
        state = state.copy(
            phase = Phase.Loading, answer = "", progress = null, tokensPerSecond = 0.0, stats = null, shares = emptyList(), notice = null,
        )
        // The GPU's passes read what the router chose, and nothing else.
        val device = if (s.dense) Device.CPU else state.device
        worker.execute { run(model, device, prompt, options) }
    }

    /** The switch "n-gram" means the text alone; chain and tree take the draft head as well, where there is one. */
    private fun drafterOf(speculation: Speculation) = if (speculation == Speculation.AUTO) Drafter.NGRAM else Drafter.BEST

    /** Ends the run within one step; [reason] is shown. */
    fun stop(reason: String = context.getString(R.string.stopped)) {
        if (state.phase != Phase.Running && state.phase != Phase.Loading) return
        reasonToStop = reason
        stopping = true
        state = state.copy(phase = Phase.Stopping)
        open?.cancel()
    }

    @Suppress("DEPRECATION")  // Android 14 and later send fewer levels, older ones all of them
    fun trimMemory(level: Int) {
        if (level < ComponentCallbacks2.TRIM_MEMORY_RUNNING_LOW || level == ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN) return
        // The levels above are said to every app that has left the screen, and are no news to its user.
        val short = level < ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN
        val reason = context.getString(R.string.memory_low)
        if (short) {
            if (state.busy) stop(reason)
            interrupt?.invoke(reason)
        }
        worker.execute {
            close()
            main.post { state = state.copy(info = null, notice = if (short) Notice(reason, false) else state.notice) }
        }
    }

    /** Runs [body] with the model on the worker thread, for the benchmark. */
    fun withModel(model: ModelEntry, body: (BlockFFN) -> Unit, failed: (String) -> Unit) {
        val device = state.device
        worker.execute {
            try {
                val engine = opened(model, device)
                main.post { state = state.copy(info = engine.info) }
                body(engine)
            } catch (error: Throwable) {
                val sentence = sentence(error)
                main.post { failed(sentence) }
            } finally {
                kept.gpuAtWork = false
            }
        }
    }

    private fun opened(model: ModelEntry, device: Device): BlockFFN {
        val wanted = Pair(model.id, device)
        val found = open?.takeIf { openAs == wanted }
        if (found == null) close()
        if (device != Device.CPU && found?.info?.onGpu != false) kept.gpuAtWork = true
        if (found != null) return found
        return models.open(model, device).also {
            open = it
            openAs = wanted
        }
    }

    private fun close() {
        open?.close()
        open = null
        openAs = null
    }

    private fun run(model: ModelEntry, device: Device, prompt: String, options: Options) {
        try {
            val engine = opened(model, device)
            main.post {
                val cancelled = state.phase == Phase.Stopping
                state = state.copy(phase = if (cancelled) Phase.Stopping else Phase.Running, info = engine.info)
            }
            if (stopping) {  // while it was opened: there is no run to end
                main.post { state = state.copy(phase = Phase.Idle, notice = Notice(reasonToStop!!, false)) }
                return
            }
            val live = Live()
            val stats = engine.generate(prompt, options) { text, progress ->
                live.add(text, progress)
                !stopping
            }
            live.flush()
            main.post {
                val notice = when {
                    reasonToStop != null -> Notice(reasonToStop!!, false)
                    stats.stoppedBy == StoppedBy.CONTEXT_FULL -> Notice(context.getString(R.string.context_full), false)
                    else -> null
                }
                state = state.copy(
                    phase = Phase.Idle, stats = stats, notice = notice,
                )
            }
        } catch (error: Throwable) {
            val sentence = sentence(error)
            main.post { state = state.copy(phase = Phase.Idle, notice = Notice(sentence, true)) }
        } finally {
            kept.gpuAtWork = false
        }
    }

    private fun sentence(error: Throwable): String = when {
        error is OutOfMemoryError || error is BlockFFNException && error.reason == BlockFFNException.Reason.NO_MEMORY ->
            context.getString(R.string.out_of_memory)
        else -> error.message ?: error.toString()
    }

    /** Gathers what the model's thread says, and shows it a frame at a time: a callback per token would flood the screen. */
    private inner class Live {
        private val text = StringBuilder()
        private val shares = ArrayList<Float>()
        private var posted = false
        private var last: Progress? = null
        private var counted = 0L
        private var since = 0L

        @Synchronized
        fun add(piece: String, progress: Progress) {
            // The speed is counted from the second piece on: before it, speculation measures this device once.
            if (last != null && since == 0L) {
                since = SystemClock.elapsedRealtimeNanos()
                counted = progress.tokens
            }
            text.append(piece)
            val total = last?.expertsTotal ?: 0
            if (progress.expertsTotal > total) {
                shares.add((progress.expertsRead - (last?.expertsRead ?: 0)).toFloat() / (progress.expertsTotal - total))
            }
            last = progress
            if (posted) return
            posted = true
            main.postDelayed({ flush() }, FRAME_MS)
        }

        fun flush() {
            val speed: Double
            val newText: String
            val newShares: List<Float>
            val progress: Progress?
            synchronized(this) {
                posted = false
                newText = text.toString()
                newShares = ArrayList(shares)
                progress = last
                val seconds = (SystemClock.elapsedRealtimeNanos() - since) / 1e9
                speed = if (since > 0 && seconds > 0) ((last?.tokens ?: 0) - counted) / seconds else 0.0
            }
            val show = Runnable {
                // A run that ended in between has the last word on its figures.
                if (state.busy) state = state.copy(answer = newText, shares = newShares, progress = progress, tokensPerSecond = speed)
            }
            if (Looper.myLooper() == Looper.getMainLooper()) show.run() else main.post(show)
        }
    }

    private companion object {
        const val FRAME_MS = 16L
    }
}
