package org.blockffn.demo

import android.app.Activity
import android.content.ClipData
import android.content.ClipboardManager
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.view.ViewGroup
import android.view.WindowManager
import android.view.inputmethod.InputMethodManager
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.PopupMenu
import android.widget.RadioGroup
import android.widget.ScrollView
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.TextView
import android.widget.Toast
import org.blockffn.Device
import org.blockffn.ModelInfo
import org.blockffn.Speculation
import kotlin.math.roundToInt

/** The screen of a prompt and its answer: shows a [UiState], and passes on what the user does. */
class MainActivity : Activity() {
    private val session get() = (application as DemoApp).session
    private lateinit var prompt: EditText
    private lateinit var answer: TextView
    private lateinit var scroll: ScrollView
    private lateinit var go: Button
    private lateinit var copy: Button
    private lateinit var model: Spinner
    private lateinit var notice: TextView
    private lateinit var figures: TextView
    private lateinit var chart: ShareChart
    private lateinit var speculation: RadioGroup
    private lateinit var feedForward: RadioGroup
    private lateinit var device: RadioGroup
    private lateinit var runsOn: TextView
    private var shown: List<ModelEntry>? = null
    private var settingsOpen = false

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        fitInsets(findViewById(R.id.root), findViewById(R.id.panel))
        prompt = findViewById(R.id.prompt)
        answer = findViewById(R.id.answer)
        scroll = findViewById(R.id.scroll)
        go = findViewById(R.id.go)
        copy = findViewById(R.id.copy)
        model = findViewById(R.id.model)
        notice = findViewById(R.id.notice)
        figures = findViewById(R.id.figures)
        chart = findViewById(R.id.chart)
        speculation = findViewById(R.id.speculation)
        feedForward = findViewById(R.id.feed_forward)
        device = findViewById(R.id.device)
        runsOn = findViewById(R.id.runs_on)

        if (saved == null) prompt.setText(R.string.prompt_default) else restore(saved)
        buildSettings(findViewById(R.id.settings))
        showSettings(saved?.getBoolean(SETTINGS_OPEN) ?: false)

        go.setOnClickListener {
            if (session.state.busy) {
                session.stop()
            } else {
                val keyboard = getSystemService(INPUT_METHOD_SERVICE) as InputMethodManager
                keyboard.hideSoftInputFromWindow(prompt.windowToken, 0)
                session.generate(prompt.text.toString())
            }
        }
        copy.setOnClickListener {
            val clipboard = getSystemService(CLIPBOARD_SERVICE) as ClipboardManager
            clipboard.setPrimaryClip(ClipData.newPlainText(getString(R.string.answer), answer.text))
            Toast.makeText(this, R.string.copied, Toast.LENGTH_SHORT).show()
        }
        findViewById<Button>(R.id.settings_toggle).setOnClickListener { showSettings(!settingsOpen) }
        findViewById<Button>(R.id.more).setOnClickListener { showMenu(it) }
        speculation.setOnCheckedChangeListener { _, id ->
            SPECULATION[id]?.let { chosen -> if (session.state.settings.speculation != chosen) session.settings { copy(speculation = chosen) } }
        }
        feedForward.setOnCheckedChangeListener { _, id ->
            val dense = id == R.id.dense
            if (session.state.settings.dense != dense) session.settings { copy(dense = dense) }
        }
        device.setOnCheckedChangeListener { _, id -> DEVICE[id]?.let { session.device(it) } }
        model.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>, view: View?, position: Int, id: Long) {
                shown?.getOrNull(position)?.let { session.select(it) }
            }

            override fun onNothingSelected(parent: AdapterView<*>) = Unit
        }
    }

    override fun onStart() {
        super.onStart()
        session.refresh()
        session.observer = { show(it) }
    }

    override fun onStop() {
        super.onStop()
        session.observer = null
        // Nobody reads along in the background, and the battery is the user's. A rotation goes on.
        if (!isChangingConfigurations) session.stop(getString(R.string.stopped_background))
    }

    override fun onSaveInstanceState(out: Bundle) {
        super.onSaveInstanceState(out)
        val state = session.state
        out.putString(ANSWER, state.answer)
        out.putString(MODEL, state.model?.id)
        out.putBoolean(RUNNING, state.busy)
        out.putBoolean(SETTINGS_OPEN, settingsOpen)
        val s = state.settings
        out.putString(SPEC, s.speculation.name)
        out.putBoolean(DENSE, s.dense)
        out.putDoubleArray(SAMPLING, doubleArrayOf(s.maxTokens.toDouble(), s.temperature, s.topP, s.repetitionPenalty, s.seed.toDouble(), s.topK.toDouble()))
    }

    private fun restore(saved: Bundle) {
        val v = saved.getDoubleArray(SAMPLING) ?: return
        val settings = Settings(
            Speculation.valueOf(saved.getString(SPEC)!!), saved.getBoolean(DENSE), maxTokens = v[0].toInt(), temperature = v[1],
            topP = v[2], repetitionPenalty = v[3], seed = v[4].toLong(), topK = v[5].toInt(),
        )
        session.restore(saved.getString(ANSWER).orEmpty(), settings, saved.getString(MODEL), saved.getBoolean(RUNNING))
    }

    private fun show(state: UiState) {
        if (state.models != shown) {
            shown = state.models
            model.adapter = ArrayAdapter(this, R.layout.model_item, state.models)
        }
        val position = state.models.indexOf(state.model)
        if (position >= 0 && model.selectedItemPosition != position) model.setSelection(position)
        model.isEnabled = !state.busy

        speculation.check(SPECULATION.entries.first { it.value == state.settings.speculation }.key)
        feedForward.check(if (state.settings.dense) R.id.dense else R.id.sparse)
        device.check(DEVICE.entries.first { it.value == state.device }.key)
        for (group in listOf(speculation, feedForward, device)) for (i in 0 until group.childCount) group.getChildAt(i).isEnabled = !state.busy

        go.setText(if (state.phase == Phase.Stopping) R.string.stopping else if (state.busy) R.string.stop else R.string.generate)
        go.isEnabled = state.model != null && state.phase != Phase.Stopping
        copy.isEnabled = state.answer.isNotEmpty()
        // A screen that goes dark ends the run.
        if (state.busy) window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON) else window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)

        val atEnd = !scroll.canScrollVertically(1)
        if (answer.text.toString() != state.answer) {
            answer.text = state.answer
            if (atEnd && state.busy) scroll.post { scroll.fullScroll(View.FOCUS_DOWN) }
        }
        chart.show(state.shares)
        figures.text = figuresOf(state)
        val where = state.info?.let { runsOn(it, state) }.orEmpty()
        if (runsOn.text.toString() != where) runsOn.text = where
        runsOn.visible(where.isNotEmpty())

        val warning = if (state.hot) getString(R.string.thermal_warning, thermal(state.thermal)) else null
        val text = listOfNotNull(state.notice?.text, warning).joinToString("\n\n")
        if (notice.text.toString() != text) notice.text = text
        notice.visible(text.isNotEmpty())
        val isError = state.notice?.isError == true
        notice.setBackgroundResource(if (isError) R.drawable.card_error else R.drawable.card_warning)
        notice.setTextColor(getColor(if (isError) R.color.error else R.color.warning))
    }

    private fun figuresOf(state: UiState): String {
        val stats = state.stats
        val line = when {
            state.phase == Phase.Loading -> getString(R.string.loading, state.model?.title.orEmpty())
            state.busy && state.progress == null -> getString(R.string.reading)
            state.busy -> state.progress!!.run {
                getString(R.string.figures_running, tokens, ttftMs, state.tokensPerSecond, tokensPerCycle, shareRead * 100)
            }
            stats != null -> getString(
                R.string.figures, stats.ttftMs, stats.tokensPerSecond, stats.tokensPerCycle, stats.shareRead * 100,
                stats.peakRssBytes / 1e6,
            )
            else -> ""
        }
        return listOf(line, getString(R.string.thermal, thermal(state.thermal))).filter { it.isNotEmpty() }.joinToString(" · ")
    }

    /** One line: where the model runs, and why there. */
    private fun runsOn(info: ModelInfo, state: UiState): String {
        val device = info.device.substringBefore(" (ms for ")  // the benchmark's JSON has the times
        if (info.onGpu) return getString(R.string.runs_on_gpu, device.substringAfter("gpu "))
        val cpu = getString(R.string.runs_on_cpu, info.kernels, info.threads)
        val why = device.substringAfter("cpu: ", if (state.device == Device.CPU) "" else getString(R.string.dense_on_cpu))
        return if (why.isEmpty()) cpu else "$cpu: $why"
    }

    private fun thermal(status: Int) = resources.getStringArray(R.array.thermal_names).getOrElse(status) { status.toString() }

    private fun showSettings(open: Boolean) {
        settingsOpen = open
        findViewById<View>(R.id.settings).visible(open)
    }

    /** A labelled slider per number. */
    private fun buildSettings(parent: LinearLayout) {
        val s = session.state.settings
        slider(parent, 64, (s.maxTokens / 16) - 1, { getString(R.string.max_tokens, (it + 1) * 16) }) { session.settings { copy(maxTokens = (it + 1) * 16) } }
        slider(parent, 15, (s.temperature * 10).roundToInt(), {
            if (it == 0) getString(R.string.temperature_greedy) else getString(R.string.temperature, it / 10.0)
        }) { session.settings { copy(temperature = it / 10.0) } }
        slider(parent, 100, s.topK, { if (it == 0) getString(R.string.top_k_off) else getString(R.string.top_k, it) }) { session.settings { copy(topK = it) } }
        slider(parent, 19, (s.topP * 20).roundToInt() - 1, { getString(R.string.top_p, (it + 1) / 20.0) }) { session.settings { copy(topP = (it + 1) / 20.0) } }
        slider(parent, 10, ((s.repetitionPenalty - 1) * 20).roundToInt(), { getString(R.string.repetition_penalty, 1 + it / 20.0) }) {
            session.settings { copy(repetitionPenalty = 1 + it / 20.0) }
        }
        slider(parent, 99, s.seed.toInt(), { getString(R.string.seed, it) }) { session.settings { copy(seed = it.toLong()) } }
    }

    private fun slider(parent: ViewGroup, max: Int, value: Int, text: (Int) -> String, changed: (Int) -> Unit) {
        val label = TextView(this, null, 0, R.style.Label)
        val bar = SeekBar(this)
        bar.max = max
        bar.progress = value
        label.text = text(value)
        bar.contentDescription = label.text
        bar.minimumHeight = (48 * resources.displayMetrics.density).roundToInt()
        bar.setOnSeekBarChangeListener(object : SeekBar.OnSeekBarChangeListener {
            override fun onProgressChanged(seekBar: SeekBar, progress: Int, fromUser: Boolean) {
                label.text = text(progress)
                bar.contentDescription = label.text
                if (fromUser) changed(progress)
            }

            override fun onStartTrackingTouch(seekBar: SeekBar) = Unit

            override fun onStopTrackingTouch(seekBar: SeekBar) = Unit
        })
        parent.addView(label)
        parent.addView(bar)
    }

    private fun showMenu(anchor: View) {
        val menu = PopupMenu(this, anchor)
        val actions = listOf<Pair<Int, () -> Unit>>(
            R.string.benchmark to { startActivity(Intent(this, BenchmarkActivity::class.java)) },
            R.string.pick_file to {
                val pick = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("*/*")
                startActivityForResult(pick, PICK)
            },
            R.string.notices to { startActivity(Intent(this, NoticesActivity::class.java)) },
        )
        actions.forEachIndexed { i, (title, _) -> menu.menu.add(0, i, i, title) }
        menu.setOnMenuItemClickListener { item ->
            actions[item.itemId].second()
            true
        }
        menu.show()
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        super.onActivityResult(request, result, data)
        if (request == PICK && result == RESULT_OK) data?.data?.let { session.pick(it) }
    }

    private companion object {
        const val PICK = 1
        const val ANSWER = "answer"
        const val MODEL = "model"
        const val RUNNING = "running"
        const val SETTINGS_OPEN = "settings_open"
        const val SPEC = "speculation"
        const val DENSE = "dense"
        const val SAMPLING = "sampling"
        val DEVICE = mapOf(R.id.device_cpu to Device.CPU, R.id.device_gpu to Device.GPU, R.id.device_auto to Device.AUTO)
        val SPECULATION = mapOf(
            R.id.spec_off to Speculation.OFF, R.id.spec_ngram to Speculation.AUTO, R.id.spec_chain to Speculation.CHAIN,
            R.id.spec_tree to Speculation.TREE,
        )
    }
}

fun View.visible(yes: Boolean) {
    visibility = if (yes) View.VISIBLE else View.GONE
}
