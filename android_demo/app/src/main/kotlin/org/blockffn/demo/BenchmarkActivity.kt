package org.blockffn.demo

import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.os.Build
import android.os.Bundle
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TextView
import java.io.File
import java.io.IOException

/** Runs the [Benchmark], shows its [Report] and shares it as JSON and as a picture. */
class BenchmarkActivity : Activity() {
    private val session get() = (application as DemoApp).session
    private lateinit var start: Button
    private lateinit var share: Button
    private lateinit var status: TextView
    private lateinit var progress: ProgressBar
    private lateinit var chart: BenchmarkChart
    private lateinit var rows: TextView

    /** Outlives a rotation. */
    private class State(var benchmark: Benchmark? = null, var report: Report? = null, var activity: BenchmarkActivity? = null)

    private lateinit var state: State

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.benchmark)
        fitInsets(findViewById(R.id.root))
        start = findViewById(R.id.start)
        share = findViewById(R.id.share)
        status = findViewById(R.id.state)
        progress = findViewById(R.id.progress)
        chart = findViewById(R.id.chart)
        rows = findViewById(R.id.rows)
        state = lastNonConfigurationInstance as State? ?: State()
        state.activity = this
        start.setOnClickListener { if (state.benchmark == null) begin() else end(null) }
        share.setOnClickListener { state.report?.let { share(it) } }
        state.report?.let { show(it) }
        running(state.benchmark != null)
    }

    override fun onRetainNonConfigurationInstance(): Any = state

    override fun onDestroy() {
        super.onDestroy()
        state.activity = null
    }

    override fun onStop() {
        super.onStop()
        // In the background a process gets the slow cores, or none: figures from there would be of something else.
        if (!isChangingConfigurations && state.benchmark != null) end(getString(R.string.bench_background))
    }

    private fun begin() {
        val benchmark = Benchmark(applicationContext, session, intent.getIntExtra(ROUNDS, 5), intent.getIntExtra(TOKENS, 128))
        if (session.state.model == null) return end(getString(R.string.no_model))
        state.benchmark = benchmark
        running(true)
        // The activity may be another one by the time of a callback.
        val state = state
        session.interrupt = { reason -> state.activity?.end(reason) ?: benchmark.cancel() }
        benchmark.start(
            progress = { round, rounds, name -> runOnUiThread { state.activity?.tell(benchmark, round, rounds, name) } },
            done = { report ->
                runOnUiThread {
                    if (state.benchmark !== benchmark) return@runOnUiThread
                    state.report = report
                    state.benchmark = null
                    session.interrupt = null
                    state.activity?.let {
                        it.show(report)
                        it.running(false)
                    }
                }
            },
            failed = { sentence -> if (state.benchmark === benchmark) state.activity?.end(sentence) ?: run { state.benchmark = null } },
        )
    }

    private fun end(error: String?) {
        state.benchmark?.cancel()
        state.benchmark = null
        session.interrupt = null
        running(false)
        status.text = error?.let { getString(R.string.bench_failed, it) }.orEmpty()
    }

    private fun tell(of: Benchmark, round: Int, rounds: Int, name: String) {
        if (state.benchmark !== of) return
        status.text = getString(R.string.bench_running, round + 1, rounds, name) +
            if (session.state.thermal > 0) " · " + getString(R.string.thermal, thermal(session.state.thermal)) else ""
        progress.max = rounds
        progress.progress = round
    }

    private fun running(yes: Boolean) {
        start.setText(if (yes) R.string.stop else R.string.bench_start)
        share.isEnabled = !yes && state.report != null
        progress.visibility = if (yes) View.VISIBLE else View.INVISIBLE
        if (yes) window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON) else window.clearFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        if (!yes) status.text = ""
    }

    private fun show(report: Report) {
        chart.visible(true)
        rows.visible(true)
        chart.show(report)
        val unknown = getString(R.string.unknown)
        fun percent(s: DeviceState) = s.batteryPercent?.let { "$it %" } ?: unknown
        fun celsius(s: DeviceState) = s.batteryCelsius?.let { "$it °C" } ?: unknown
        fun clock(s: DeviceState) = s.bigCoreMhz?.let { "$it MHz" } ?: unknown
        val lines = report.results.map { r ->
            getString(R.string.bench_row, r.case.name, r.speed, r.speeds.first(), r.speeds.last(), r.ttftMs, r.shareRead * 100)
        }
        val remarks = listOfNotNull(
            if (report.throttled) getString(R.string.bench_throttled, thermal(report.hottest!!)) else null,
            if (report.info.onGpu) getString(R.string.bench_gpu) else null,
        )
        rows.text = (remarks + lines + getString(
            R.string.bench_device, Build.MODEL, Build.VERSION.RELEASE, percent(report.before), percent(report.after),
            celsius(report.before), celsius(report.after), clock(report.before), clock(report.after),
            report.hottest?.let { thermal(it) } ?: unknown,
        )).joinToString("\n\n")
    }

    private fun share(report: Report) {
        val drawn = chart.picture()
        val folder = ShareProvider.folder(this)
        val state = state
        share.isEnabled = false
        session.background({
            folder.mkdirs()
            val json = File(folder, "blockffn-benchmark.json").apply { writeText(report.toJson().toString(2)) }
            val picture = File(folder, "blockffn-benchmark.png")
            picture.outputStream().use { if (!drawn.compress(Bitmap.CompressFormat.PNG, 100, it)) throw IOException("no space for the picture") }
            listOf(json, picture)
        }) { files, sentence -> state.activity?.shared(files, sentence) }
    }

    private fun shared(files: List<File>?, sentence: String?) {
        share.isEnabled = state.benchmark == null
        if (files == null) status.text = getString(R.string.share_failed, sentence)
        else startActivity(Intent.createChooser(ShareProvider.intent(files), getString(R.string.bench_share)))
    }

    private fun thermal(status: Int) = resources.getStringArray(R.array.thermal_names).getOrElse(status) { status.toString() }

    companion object {
        const val ROUNDS = "rounds"
        const val TOKENS = "tokens"
    }
}
