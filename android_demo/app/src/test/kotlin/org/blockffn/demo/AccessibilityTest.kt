package org.blockffn.demo

import android.app.Activity
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Rect
import android.os.Looper
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.EditText
import android.widget.TextView
import org.blockffn.ModelInfo
import org.blockffn.Progress
import org.blockffn.Stats
import org.blockffn.StoppedBy
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.ConscryptMode
import org.robolectric.annotation.GraphicsMode
import java.io.File
import kotlin.math.max
import kotlin.math.min
import kotlin.math.pow

/**
 * Every screen in its states, by day and night, upright and across, on a small and a usual phone, with letters of the usual
 * size and twice as large, and from right to left: what can be touched has a name and is 48 dp large, no text is cut off, and text
 * stands out from what is drawn behind it (4.5:1, WCAG 2.1 AA). Needs no engine.
 */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35])
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@ConscryptMode(ConscryptMode.Mode.OFF)
class AccessibilityTest {
    private val app get() = RuntimeEnvironment.getApplication() as DemoApp
    private var controller: ActivityController<out Activity>? = null

    @After
    fun close() {
        controller?.pause()?.stop()?.destroy()
    }

    private fun <T : Activity> open(type: Class<T>): T {
        close()
        return Robolectric.buildActivity(type).also { controller = it }.setup().get().also { idle() }
    }

    private fun idle() = shadowOf(Looper.getMainLooper()).idle()

    private fun show(change: UiState.() -> UiState) {
        val set = Session::class.java.getDeclaredMethod("setState", UiState::class.java).apply { isAccessible = true }
        set.invoke(app.session, app.session.state.change())
        idle()
    }

    private val charts = HashMap<Pair<Float, Float>, Int>()  // width in dp and size of letters -> height

    private fun screens(check: (String, Activity) -> Unit) {
        val activity = open(MainActivity::class.java)
        show { copy(phase = Phase.Idle, answer = "", stats = null, shares = emptyList(), notice = null, thermal = 0) }
        val end = System.nanoTime() + 30_000_000_000
        while (app.session.state.model == null && System.nanoTime() < end) idle().also { Thread.sleep(2) }  // the list comes from files
        check("empty", activity)
        activity.findViewById<Button>(R.id.settings_toggle).performClick()
        show { copy(info = INFO, answer = "The answer is here, and it is a line or two long.", stats = STATS, shares = List(60) { 0.3f }) }
        check("answered, settings", activity)
        show { copy(phase = Phase.Running, progress = Progress(1234, 500, 3, 10, 1234.0), tokensPerSecond = 181.3, notice = null) }
        check("running", activity)
        show { copy(info = INFO.copy(device = "gpu Adreno (TM) 740"), phase = Phase.Idle, notice = Notice("This file is not an ExecuTorch program.", true), thermal = 3) }
        check("error, hot", activity)
        show { copy(notice = Notice("Stopped.", false), thermal = 0) }
        check("stopped", activity)
        val model = app.session.state.model!!
        val benchmark = open(BenchmarkActivity::class.java)
        check("benchmark", benchmark)
        val cases = listOf("All (dense)", "All (dense) + speculation", "Active (sparse)", "Active (sparse) + speculation")
            .mapIndexed { i, name -> Result(Case(name, model, i < 2, org.blockffn.Speculation.OFF), listOf(STATS, STATS.copy(decodeMs = 1500.0 + i))) }
        val device = DeviceState.now(app)
        val report = BenchmarkActivity::class.java.getDeclaredMethod("show", Report::class.java).apply { isAccessible = true }
        report.invoke(benchmark, Report(cases, device, device, INFO, 3))
        idle()
        check("benchmark's report", benchmark)
        val chart = benchmark.findViewById<BenchmarkChart>(R.id.chart)
        charts[chart.width / chart.resources.displayMetrics.density to chart.resources.configuration.fontScale] = chart.height
        check("licences", open(NoticesActivity::class.java))
    }

    @Test
    fun everyScreen() {
        val found = ArrayList<String>()
        var checked = 0
        val configurations = listOf(
            "w411dp-h891dp-port-notnight" to 1f, "w411dp-h891dp-port-night" to 1f, "w411dp-h891dp-port-notnight" to 2f,
            "w320dp-h568dp-port-notnight" to 1f, "w320dp-h568dp-port-notnight" to 2f, "w891dp-h411dp-land-night" to 2f,
            "w891dp-h411dp-land-notnight" to 1f, "ldrtl-w411dp-h891dp-port-notnight" to 1f,
        )
        val sheet = Sheet()
        for ((qualifiers, scale) in configurations) {
            val language = if (qualifiers.startsWith("ldrtl")) "ar" else "en"  // whose direction it is; the words are the same
            RuntimeEnvironment.setQualifiers("$language-$qualifiers-xhdpi")
            RuntimeEnvironment.setFontScale(scale)
            sheet.row()
            screens { name, activity ->
                if (name in PICTURED) sheet.add(activity.window.decorView)
                assertEquals(scale, activity.resources.configuration.fontScale)
                activity.findViewById<View>(R.id.panel)?.let {
                    if ((it.parent as View).height > 0.41 * activity.resources.displayMetrics.heightPixels) found.add("figures take the screen ($name, $qualifiers, font $scale)")
                }
                checked += shown(activity.window.decorView).size
                problems(activity).forEach { found.add("$it ($name, $qualifiers, font $scale)") }
            }
        }
        System.getProperty("blockffn.screenshots")?.let { sheet.write(File(it, "screens.png")) }
        assertTrue("only $checked views", checked > 500)
        // A chart draws its letters itself, beside bars that do not grow: they take the place that letters of their size need.
        for ((width, height) in charts.filterKeys { it.second == 1f }.mapKeys { it.key.first }) {
            charts[width to 2f]?.let { assertTrue("$charts", it >= 1.35 * height) }
        }
        assertTrue("$charts", charts.keys.groupBy { it.first }.any { it.value.size == 2 })
        assertTrue(found.groupingBy { it.substringBefore(" (") }.eachCount().entries.joinToString("\n", "\n") { (what, times) ->
            "$what, $times times, first " + found.first { it.startsWith(what) }.substringAfter(" (").dropLast(1)
        }, found.isEmpty())
    }

    /** Small pictures of screens, a row for each configuration. */
    private class Sheet {
        private val rows = ArrayList<MutableList<Bitmap>>()

        fun row() = rows.add(ArrayList())

        fun add(view: View) {
            val full = Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888)
            view.draw(Canvas(full))
            rows.last().add(Bitmap.createScaledBitmap(full, view.width / 4, view.height / 4, true))
        }

        fun write(file: File) {
            val sheet = Bitmap.createBitmap(rows.maxOf { row -> row.sumOf { it.width + GAP } }, rows.sumOf { row -> row.maxOf { it.height } + GAP },
                Bitmap.Config.ARGB_8888)
            val canvas = Canvas(sheet)
            canvas.drawColor(Color.GRAY)
            var y = 0f
            for (row in rows) {
                var x = 0f
                for (picture in row) {
                    canvas.drawBitmap(picture, x, y, null)
                    x += picture.width + GAP
                }
                y += row.maxOf { it.height } + GAP
            }
            file.parentFile!!.mkdirs()
            file.outputStream().use { assertTrue(sheet.compress(Bitmap.CompressFormat.PNG, 100, it)) }
        }
    }

    /** One view is spoilt in every way. */
    @Test
    fun plantedFaultsAreFound() {
        RuntimeEnvironment.setQualifiers("en-w411dp-h891dp-port-notnight-xhdpi")
        val activity = open(MainActivity::class.java)
        show { copy(phase = Phase.Idle, answer = "", stats = null, shares = emptyList(), notice = null, thermal = 0) }
        assertEquals(emptyList<String>(), problems(activity))
        val more = activity.findViewById<Button>(R.id.more)
        fun spoilt(change: Button.() -> Unit): List<String> {
            more.change()
            idle()
            activity.window.decorView.apply {
                measure(View.MeasureSpec.makeMeasureSpec(width, View.MeasureSpec.EXACTLY), View.MeasureSpec.makeMeasureSpec(height, View.MeasureSpec.EXACTLY))
                layout(0, 0, width, height)
            }
            return problems(activity)
        }
        assertEquals("Button more has no name", spoilt { text = "" }.first())
        assertTrue(spoilt { text = "More"; setTextColor(0xFFC0C0C0.toInt()) }.single().startsWith("Button more has contrast 1."))
        more.setTextColor(Color.BLACK)
        assertTrue(spoilt { layoutParams = layoutParams.apply { height = 60 } }.first().startsWith("Button more is 30 dp high"))
        assertTrue(spoilt { layoutParams = layoutParams.apply { height = 96; width = 120 }; text = "More and more" }.any { it.startsWith("Button more") })
        assertTrue(spoilt { maxLines = 1; ellipsize = android.text.TextUtils.TruncateAt.END }.any { it == "Button more has cut text" })
    }

    private fun shown(view: View): List<View> = when {
        view.visibility != View.VISIBLE || view.width == 0 || view.height == 0 -> emptyList()
        view is ViewGroup -> listOf(view) + (0 until view.childCount).flatMap { shown(view.getChildAt(it)) }
        else -> listOf(view)
    }

    private fun problems(activity: Activity): List<String> {
        val root = activity.window.decorView
        val density = root.resources.displayMetrics.density
        val views = shown(root)
        // Labels of every kind, as a screen reader would find them.
        val labelled = views.filter { it.labelFor != View.NO_ID }.map { it.labelFor }
        fun name(view: View): String {
            val node = view.createAccessibilityNodeInfo()
            return (node.contentDescription ?: node.text ?: node.hintText ?: "").toString()
        }
        return views.flatMap { view ->
            val found = ArrayList<String>()
            val id = if (view.id > 0) view.resources.getResourceEntryName(view.id) else ""
            val touched = view.isClickable || view.isLongClickable
            if ((touched || view.isFocusable && view !is ViewGroup) && name(view).isBlank() && view.id !in labelled) found.add("has no name")
            if (touched && view.isEnabled) {
                if (view.width < 48 * density - 0.5) found.add("is ${(view.width / density).toInt()} dp wide")
                if (view.height < 48 * density - 0.5) found.add("is ${(view.height / density).toInt()} dp high")
            }
            val parent = view.parent
            if (parent is ViewGroup && (view.left < 0 || view.right > parent.width)) found.add("leaves its parent's sides")
            if (view is TextView && view.text.isNotEmpty() && view.layout != null) cut(view)?.let { found.add(it) }
            if (view is TextView && view.isEnabled && (view.text.isNotEmpty() || view.hint != null)) {
                val ratio = contrast(view)
                if (ratio < 4.5) found.add("has contrast %.1f".format(ratio))
            }
            found.map { "${view.javaClass.simpleName} $id".trim() + " " + it }
        }
    }

    private fun cut(view: TextView): String? {
        val layout = view.layout
        val width = view.width - view.compoundPaddingLeft - view.compoundPaddingRight
        val height = view.height - view.compoundPaddingTop - view.compoundPaddingBottom
        val lines = 0 until layout.lineCount
        return when {
            lines.any { layout.getEllipsisCount(it) > 0 } || view !is EditText && layout.text.length < view.text.length -> "has cut text"
            view !is EditText && layout.height > height + 1 -> "has cut text"  // an EditText scrolls
            lines.any { layout.getLineMax(it) > width + 1 } -> "has a line that is too wide"
            // A word broken in two lines can be read, but not on a button.
            view is Button && lines.drop(1).any { layout.getLineStart(it).let { at -> view.text[at].isLetterOrDigit() && view.text[at - 1].isLetterOrDigit() } } ->
                "breaks a word"
            else -> null
        }
    }

    /** Of a text's colour and of what its own background and its ancestors' draw, one over the other. */
    private fun contrast(view: TextView): Double {
        val bitmap = Bitmap.createBitmap(64, 64, Bitmap.Config.ARGB_8888)
        val colour = if (view.text.isEmpty()) view.currentHintTextColor else view.currentTextColor
        val canvas = Canvas(bitmap)
        generateSequence(view as View) { it.parent as? View }.toList().asReversed().forEach { it.background?.let { drawable -> drawn(drawable, canvas, it) } }
        val behind = bitmap.getPixel(32, 32)
        assertEquals("$view lies on nothing", 255, Color.alpha(behind))
        val a = Color.alpha(colour) / 255.0
        fun mixed(of: (Int) -> Int) = a * of(colour) + (1 - a) * of(behind)
        val text = luminance(mixed(Color::red), mixed(Color::green), mixed(Color::blue))
        val back = luminance(Color.red(behind).toDouble(), Color.green(behind).toDouble(), Color.blue(behind).toDouble())
        return (max(text, back) + 0.05) / (min(text, back) + 0.05)
    }

    /** A background over the whole canvas, so that the middle shows what lies behind the view's letters. */
    private fun drawn(drawable: android.graphics.drawable.Drawable, canvas: Canvas, view: View) {
        val own = Rect(drawable.bounds)
        drawable.state = view.drawableState
        drawable.setBounds(0, 0, canvas.width, canvas.height)
        drawable.draw(canvas)
        drawable.bounds = own
    }

    private fun luminance(red: Double, green: Double, blue: Double): Double {
        fun linear(v: Double) = (v / 255).let { if (it <= 0.04045) it / 12.92 else ((it + 0.055) / 1.055).pow(2.4) }
        return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
    }

    private companion object {
        const val GAP = 6
        val INFO = ModelInfo(2048, 8192, 384, "", "i8mm", 4, true, "cpu: it is faster here (ms for 1, 8, 32, 64 tokens: cpu 1 2 3 4, gpu 9 9 9 9)")
        val PICTURED = setOf("answered, settings", "running", "error, hot", "benchmark's report", "licences")
        val STATS = Stats(
            StoppedBy.MAX_TOKENS, 10, 0, 160, 60, 200, 100, 123.4, 100.0, 1400.0, 1.0, 2.0, 3.0, 4.0, 123_456_789, 100, 1000, List(65) { 0L },
            3000, 10000,
        )
    }
}
