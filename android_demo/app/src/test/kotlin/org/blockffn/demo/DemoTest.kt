package org.blockffn.demo

import android.app.Activity
import android.content.ClipboardManager
import android.content.ContentProvider
import android.content.ContentValues
import android.content.ComponentCallbacks2
import android.content.Context
import android.content.Intent
import android.content.res.Configuration
import android.database.Cursor
import android.database.MatrixCursor
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Insets
import android.graphics.Rect
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.os.Looper
import android.os.ParcelFileDescriptor
import android.os.PowerManager
import android.provider.OpenableColumns
import android.view.View
import android.view.ViewGroup
import android.view.WindowInsets
import android.view.WindowManager
import android.view.accessibility.AccessibilityNodeInfo
import android.widget.Button
import android.widget.EditText
import android.widget.RadioGroup
import android.widget.SeekBar
import android.widget.Spinner
import android.widget.TextView
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.blockffn.BlockFFN
import org.blockffn.BlockFFNException
import org.blockffn.Device
import org.blockffn.Drafter
import org.blockffn.ModelFile
import org.blockffn.ModelInfo
import org.blockffn.Options
import org.blockffn.Speculation
import org.blockffn.Stats
import org.blockffn.StoppedBy
import org.json.JSONObject
import org.junit.After
import org.junit.Assume.assumeTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.junit.Test
import org.junit.rules.TestName
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
import kotlin.system.measureTimeMillis

/**
 * The real activities on the real framework classes of Android 8.0 (the oldest one that they support), 15 and 16, over the
 * real engine in a library for this machine's JVM. System properties: blockffn.golden (file with the text that the Python runtime gives for the default prompt),
 * blockffn.screenshots (a folder; none: no pictures), blockffn.only (names of tests, with commas).
 */
@Suppress("DEPRECATION")  // the levels of onTrimMemory
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [26, 35, 36], qualifiers = "w411dp-h891dp-xxhdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@ConscryptMode(ConscryptMode.Mode.OFF)  // it would look into android.os.Build before the sandbox is ready
class DemoTest {
    private val golden = File(System.getProperty("blockffn.golden")!!).readText()
    private val app get() = RuntimeEnvironment.getApplication() as DemoApp
    @get:Rule val name = TestName()
    private val controllers = ArrayList<ActivityController<*>>()

    @Before
    fun chosen() {
        val only = System.getProperty("blockffn.only").orEmpty()
        assumeTrue(only.isEmpty() || name.methodName.substringBefore('[') in only.split(','))
    }

    @After
    fun close() {
        app.session.stop()
        pump("the run's end") { !app.session.state.busy }
        controllers.forEach { if (!it.get().isDestroyed) it.pause().stop().destroy() }
        app.session.trimMemory(ComponentCallbacks2.TRIM_MEMORY_COMPLETE)  // closes the model
        pump("the model's end") { !app.session.isOpen }
    }

    private fun pump(what: String, done: () -> Boolean) {
        val end = System.nanoTime() + if (System.getProperty("blockffn.gpu") == null) 60_000_000_000 else 240_000_000_000
        while (!done()) {
            shadowOf(Looper.getMainLooper()).idleFor(java.time.Duration.ofMillis(20))
            Thread.sleep(2)
            if (System.nanoTime() > end) fail("$what does not come: ${app.session.state}")
        }
        shadowOf(Looper.getMainLooper()).idle()
    }

    private fun start(saved: Bundle? = null): ActivityController<MainActivity> =
        Robolectric.buildActivity(MainActivity::class.java).also { controllers.add(it) }.let { if (saved == null) it.setup() else it.setup(saved) }
            .also { pump("the list of models") { app.session.state.model != null } }

    private fun benchmark(rounds: Int, tokens: Int): ActivityController<BenchmarkActivity> {
        val intent = Intent(app, BenchmarkActivity::class.java).putExtra(BenchmarkActivity.ROUNDS, rounds).putExtra(BenchmarkActivity.TOKENS, tokens)
        pump("the list of models") { app.session.state.model != null }
        return Robolectric.buildActivity(BenchmarkActivity::class.java, intent).also { controllers.add(it) }.setup()
    }

    private fun Activity.has(flag: Int) = window.attributes.flags and flag != 0

    private fun <T : View> MainActivity.view(id: Int): T = findViewById(id)

    private fun MainActivity.text(id: Int) = view<TextView>(id).text.toString()

    private fun MainActivity.go() = view<Button>(R.id.go).performClick()

    private fun heat(status: Int) = shadowOf(app.getSystemService(Context.POWER_SERVICE) as PowerManager).setCurrentThermalStatus(status)

    private fun finish() = pump("the answer") { !app.session.state.busy }

    private fun shot(view: View, name: String) {
        val folder = System.getProperty("blockffn.screenshots") ?: return
        view.findViewById<View>(R.id.scroll)?.scrollTo(0, 0)
        shadowOf(Looper.getMainLooper()).idle()
        val full = Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888)
        view.draw(Canvas(full))
        val small = Bitmap.createScaledBitmap(full, view.width * 2 / 5, view.height * 2 / 5, true)
        File(folder).mkdirs()
        File(folder, "$name.png").outputStream().use { assertTrue(small.compress(Bitmap.CompressFormat.PNG, 100, it)) }
    }

    @Test
    fun everySpeculationGivesTheGoldenText() {
        val activity = start().get()
        assertEquals(Integer.getInteger("robolectric.enabledSdks"), Build.VERSION.SDK_INT)
        for (button in listOf(R.id.spec_off, R.id.spec_chain, R.id.spec_tree, R.id.spec_ngram)) {
            activity.view<RadioGroup>(R.id.speculation).check(button)
            activity.go()
            assertEquals(app.getString(R.string.stop), activity.text(R.id.go))
            finish()
            assertEquals(golden, activity.text(R.id.answer))
            assertEquals(app.getString(R.string.generate), activity.text(R.id.go))
            assertTrue(activity.text(R.id.figures), activity.text(R.id.figures).contains(Regex("""first token \d+ ms · [\d.]+ tok/s · [\d.]+ tokens a step""")))
            assertEquals(View.GONE, activity.view<View>(R.id.notice).visibility)
            assertTrue(app.session.state.shares.size > 3 && app.session.state.shares.all { it > 0 && it <= 1 })
        }
        val stats = app.session.state.stats!!
        assertEquals(160L, stats.generatedTokens)
        assertTrue(stats.shareRead in 0.05..0.6)
        // All experts: the same text, and all that there are.
        assertTrue(activity.view<View>(R.id.dense).isShown)
        activity.view<RadioGroup>(R.id.feed_forward).check(R.id.dense)
        activity.go()
        finish()
        assertEquals(golden, activity.text(R.id.answer))
        assertEquals(1.0, app.session.state.stats!!.shareRead, 0.0)
        activity.view<RadioGroup>(R.id.feed_forward).check(R.id.sparse)
        activity.go()
        finish()
        assertTrue(app.session.state.stats!!.shareRead in 0.05..0.6)
        activity.view<Button>(R.id.copy).performClick()
        val clipboard = app.getSystemService(Context.CLIPBOARD_SERVICE) as ClipboardManager
        assertEquals(golden, clipboard.primaryClip!!.getItemAt(0).text.toString())
        shot(activity.window.decorView, "portrait")
    }

    @Test
    fun theBundledDraftHeadDrafts() {
        val entry = app.session.models.list().first()
        val head = (entry.source as Source.Assets).draft!!
        assertTrue(app.assets.openFd("models/${entry.id}/$head").use { it.length } > 1_000_000)
        val activity = start().get()
        for (button in listOf(R.id.spec_chain, R.id.spec_tree)) {
            activity.view<RadioGroup>(R.id.speculation).check(button)
            activity.go()
            finish()
            assertEquals(golden, activity.text(R.id.answer))
            assertTrue(app.session.state.info!!.hasDraftHead)
        }
        // The head alone, without n-grams: the same tokens in fewer steps, since some of its proposals are right.
        app.session.models.open(entry).use { model ->
            assertTrue(model.info.hasDraftHead)
            val prompt = model.encode(app.getString(R.string.prompt_default))
            fun tokens(options: Options): Pair<List<Int>, Stats> {
                val ids = ArrayList<Int>()
                return Pair(ids, model.generateTokens(prompt, options) { ids.add(it) })
            }
            val (plain, off) = tokens(Options(96, Speculation.OFF))
            assertEquals(96, plain.size)
            assertEquals(0L, off.draftedTokens)
            for (speculation in listOf(Speculation.CHAIN, Speculation.TREE)) {
                val (ids, stats) = tokens(Options(96, speculation, Drafter.HEAD, draftTokens = 7))
                assertEquals(plain, ids)
                assertTrue("$stats", stats.acceptedTokens in 1..stats.draftedTokens && stats.cycles < off.cycles)
            }
        }
        // Without the file the same call has nobody to draft.
        val folder = "models/${entry.id}"
        val alone = BlockFFN.open(ModelFile.asset(app, "$folder/model-int8.pte"), ModelFile.asset(app, "$folder/tokenizer.json"))
        alone.use { model ->
            assertFalse(model.info.hasDraftHead)
            assertThrows(BlockFFNException::class.java) { model.generateTokens(IntArray(3) { it + 1 }, Options(8, Speculation.CHAIN, Drafter.HEAD)) { true } }
        }
    }

    /** The session of a new process; the old one's has ended. */
    private fun newProcess(lastWords: () -> Unit = {}) {
        val done = java.util.concurrent.CountDownLatch(1)
        app.session.trimMemory(ComponentCallbacks2.TRIM_MEMORY_COMPLETE)
        app.session.background({ done.countDown() }) { _, _ -> }
        pump("the model's end") { done.count == 0L && !app.session.isOpen }
        lastWords()
        DemoApp::class.java.getDeclaredField("session\$delegate").apply { isAccessible = true }.set(app, lazy { Session(app) })
    }

    /** There is no Vulkan driver: the CPU runs whatever is chosen, and the screen says so. */
    @Test
    fun withoutAGpuTheCpuRunsAndSaysWhy() {
        assumeTrue(System.getProperty("blockffn.gpu") == null)
        val controller = start()
        val activity = controller.get()
        assertEquals(View.GONE, activity.view<View>(R.id.runs_on).visibility)
        for (device in listOf(R.id.device_cpu, R.id.device_gpu, R.id.device_auto)) {
            activity.view<RadioGroup>(R.id.device).check(device)
            activity.go()
            finish()
            assertEquals(golden, activity.text(R.id.answer))
            val cpu = app.getString(R.string.runs_on_cpu, app.session.state.info!!.kernels, app.session.state.info!!.threads)
            val why = if (device == R.id.device_cpu) "" else ": there is no Vulkan driver on this system"
            assertEquals(cpu + why, activity.text(R.id.runs_on))
            assertEquals(View.VISIBLE, activity.view<View>(R.id.runs_on).visibility)
        }
        // The choice outlives the process; what the screen said of a model does not.
        controller.pause().stop().destroy()
        newProcess()
        val again = start().get()
        pump("the choice") { app.session.state.device == Device.AUTO }
        assertEquals(R.id.device_auto, again.view<RadioGroup>(R.id.device).checkedRadioButtonId)
        assertEquals(View.GONE, again.view<View>(R.id.runs_on).visibility)
    }

    @Test
    fun aDriverThatEndedTheAppIsNotTriedAgain() {
        newProcess {
            Kept(app).device = Device.GPU
            Kept(app).gpuAtWork = true
        }
        val activity = start().get()
        pump("the notice") { activity.text(R.id.notice) == app.getString(R.string.gpu_ended_the_app) }
        assertEquals(Device.CPU, app.session.state.device)
        assertFalse(Kept(app).gpuAtWork)
        activity.go()
        finish()
        assertEquals(golden, activity.text(R.id.answer))
        // A run that ends leaves no trace.
        app.session.device(Device.GPU)
        activity.go()
        finish()
        newProcess()
        start().get()
        pump("the choice") { app.session.state.device == Device.GPU }
        assertTrue(app.session.state.notice == null)
    }

    /** On a Vulkan driver. blockffn.gpu: the text that the Python runtime gives there. */
    @Test
    fun theGpuIsChosenKeptAndNamed() {
        assumeTrue(System.getProperty("blockffn.gpu") != null)
        val text = File(System.getProperty("blockffn.gpu")!!).readText()
        val activity = start().get()
        app.session.settings { copy(maxTokens = 16, speculation = Speculation.OFF) }
        activity.view<RadioGroup>(R.id.device).check(R.id.device_gpu)
        activity.go()
        pump("the model") { app.session.state.phase == Phase.Running }
        assertTrue(Kept(app).gpuAtWork)
        finish()
        assertEquals(text, activity.text(R.id.answer))
        assertTrue(activity.text(R.id.runs_on), activity.text(R.id.runs_on).contains(Regex("""^On the GPU \(.*llvmpipe""")))
        assertTrue(app.session.state.stats!!.shareRead in 0.05..0.6)
        pump("the trace's end") { !Kept(app).gpuAtWork }
        // The self-test's verdict and the driver's pipelines are in the app's folder.
        val kept = app.codeCacheDir.list()!!.toList()
        assertTrue("$kept", kept.any { it.startsWith("pipelines-") } && kept.size >= 2)
        shot(activity.window.decorView, "gpu")
        // All experts are the CPU's.
        activity.view<RadioGroup>(R.id.feed_forward).check(R.id.dense)
        activity.go()
        finish()
        assertTrue(golden.startsWith(activity.text(R.id.answer)))
        assertTrue(activity.text(R.id.runs_on).endsWith(": " + app.getString(R.string.dense_on_cpu)))
        assertEquals(1.0, app.session.state.stats!!.shareRead, 0.0)
        // Automatic takes no software driver.
        activity.view<RadioGroup>(R.id.feed_forward).check(R.id.sparse)
        activity.view<RadioGroup>(R.id.device).check(R.id.device_auto)
        activity.go()
        finish()
        assertTrue(activity.text(R.id.runs_on).endsWith("): Vulkan has only a software driver here, which the CPU kernels outrun"))
    }

    @Test
    fun theBenchmarkComparesWithinOneDevice() {
        val model = start().let { app.session.state.model!! }
        val info = ModelInfo(2048, 8192, 384, "", "neon", 4, false, "cpu")
        val benchmark = Benchmark(app, app.session, 1, 8)
        assertEquals(listOf(true, true, false, false), benchmark.cases(model, info).map { it.allExperts })
        assertEquals(listOf(false, false), benchmark.cases(model, info.copy(device = "gpu Adreno")).map { it.allExperts })
    }

    @Test
    fun stopEndsTheRun() {
        val activity = start().get()
        app.session.settings { copy(maxTokens = 3000, speculation = Speculation.OFF) }
        activity.go()
        pump("the first words") { (app.session.state.progress?.cycles ?: 0) > 10 }
        val figures = Regex("""(\d+) tokens · first token (\d+) ms · ([\d.]+) tok/s · ([\d.]+) tokens a step · experts read (\d+) %.*""")
            .matchEntire(activity.text(R.id.figures))!!.groupValues.drop(1).map { it.toDouble() }
        assertTrue("$figures", figures[0] > 10 && figures[1] > 0 && figures[2] > 0 && figures[3] == 1.0 && figures[4] in 5.0..60.0)
        activity.go()
        assertEquals(app.getString(R.string.stopping), activity.text(R.id.go))
        finish()
        assertEquals(app.getString(R.string.stopped), activity.text(R.id.notice))
        val stats = app.session.state.stats!!
        assertTrue(stats.stoppedBy == StoppedBy.CANCELLED || stats.stoppedBy == StoppedBy.CALLBACK)
        assertTrue(stats.generatedTokens in 1..2999)
        activity.go()
        pump("another run") { app.session.state.phase == Phase.Running }
    }

    @Test
    fun rotationGoesOn() {
        val controller = start()
        val first = controller.get()
        app.session.settings { copy(speculation = Speculation.OFF) }
        first.go()
        pump("the first words") { app.session.state.answer.isNotEmpty() }
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange(app.resources.configuration)
        val second = controller.get()
        assertNotSame(first, second)
        assertEquals(Configuration.ORIENTATION_LANDSCAPE, second.resources.configuration.orientation)
        controller.visible()
        finish()
        assertEquals(golden, second.text(R.id.answer))
        shot(second.window.decorView, "landscape")
    }

    @Test
    fun aKilledAppShowsWhatItHad() {
        val controller = start()
        app.session.settings { copy(maxTokens = 3000, speculation = Speculation.OFF, topK = 9, seed = 7) }
        val prompt = app.getString(R.string.prompt_default) + " "
        controller.get().view<EditText>(R.id.prompt).setText(prompt)
        controller.get().go()
        pump("the first words") { app.session.state.answer.length > 5 }
        val saved = Bundle()
        controller.pause().saveInstanceState(saved)
        val answer = app.session.state.answer
        controller.stop().destroy()
        finish()
        assertEquals(app.getString(R.string.stopped_background), app.session.state.notice!!.text)
        newProcess()
        val activity = start(saved).get()
        assertEquals(answer, activity.text(R.id.answer))
        assertEquals(prompt, activity.text(R.id.prompt))
        assertEquals(app.getString(R.string.interrupted), activity.text(R.id.notice))
        assertEquals(Settings(Speculation.OFF, maxTokens = 3000, topK = 9, seed = 7), app.session.state.settings)
        activity.go()
        pump("a run in the new process") { app.session.state.answer.length > 5 && app.session.state.phase == Phase.Running }
    }

    @Test
    fun aBrokenModelFileGivesASentence() {
        val folder = File(app.getExternalFilesDir("models"), "broken").apply { mkdirs() }
        File(folder, "model.pte").writeBytes(ByteArray(4096) { it.toByte() })
        File(folder, "tokenizer.json").writeText("{}")
        val activity = start().get()
        val spinner = activity.view<Spinner>(R.id.model)
        spinner.setSelection(app.session.state.models.indexOfFirst { it.id == "pushed:broken" })
        pump("the choice") { app.session.state.model!!.title == "broken" }
        activity.go()
        finish()
        assertTrue(activity.text(R.id.notice), activity.text(R.id.notice).contains("not an ExecuTorch program"))
        assertTrue(app.session.state.notice!!.isError)
        shot(activity.window.decorView, "broken")
        spinner.setSelection(0)
        pump("the choice") { app.session.state.model!!.id != "pushed:broken" }
        activity.go()
        finish()
        assertEquals(golden, activity.text(R.id.answer))
        folder.deleteRecursively()
    }

    @Test
    fun aPickedFileIsAModelLikeAnyOther() {
        Robolectric.setupContentProvider(Documents::class.java, "org.blockffn.documents")
        val controller = start()
        val uri = Uri.parse("content://org.blockffn.documents/1")
        app.session.pick(uri)
        pump("the choice") { app.session.state.model!!.title == "my model.pte" }
        assertNotSame("a provider may take long, and asks on the caller's thread", Looper.getMainLooper().thread, Documents.asked)
        controller.get().go()
        finish()
        assertEquals(golden, controller.get().text(R.id.answer))
        // What its owner lends for longer is in the list of the next process, and chosen where it was.
        val saved = Bundle()
        controller.pause().saveInstanceState(saved).stop().destroy()
        newProcess()
        val again = start(saved).get()
        assertEquals("my model.pte", app.session.state.model!!.title)
        again.go()
        finish()
        assertEquals(golden, again.text(R.id.answer))
        // A provider that fails is a sentence.
        app.session.pick(Uri.parse("content://org.blockffn.documents/broken"))
        pump("the sentence") { app.session.state.notice?.text == "the document is gone" }
    }

    /** As an app that keeps documents. */
    class Documents : ContentProvider() {
        override fun onCreate() = true

        override fun query(uri: Uri, columns: Array<String>?, where: String?, arguments: Array<String>?, order: String?): Cursor {
            asked = Thread.currentThread()
            if (uri.lastPathSegment == "broken") throw IllegalStateException("the document is gone")
            return MatrixCursor(arrayOf(OpenableColumns.DISPLAY_NAME)).apply { addRow(arrayOf("my model.pte")) }
        }

        override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor =
            ParcelFileDescriptor.open(File(System.getProperty("blockffn.program")!!), ParcelFileDescriptor.MODE_READ_ONLY)

        override fun getType(uri: Uri) = "application/octet-stream"

        override fun insert(uri: Uri, values: ContentValues?): Uri? = null

        override fun delete(uri: Uri, where: String?, arguments: Array<String>?) = 0

        override fun update(uri: Uri, values: ContentValues?, where: String?, arguments: Array<String>?) = 0

        companion object {
            @Volatile var asked: Thread? = null
        }
    }

    @Test
    fun aStopWhileTheModelIsOpenedEndsThere() {
        val activity = start().get()
        activity.go()
        assertEquals(Phase.Loading, app.session.state.phase)
        assertTrue(activity.has(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON))
        activity.go()
        finish()
        assertEquals("", activity.text(R.id.answer))
        assertTrue("nothing has run", app.session.state.stats == null)
        assertEquals(app.getString(R.string.stopped), activity.text(R.id.notice))
        assertFalse(activity.has(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON))
    }

    /** What Android says to each app in the background, from Android 14 on to no other: no shortage of memory. */
    @Test
    fun inTheBackgroundTheModelIsClosedWithoutAWord() {
        val controller = start()
        controller.get().go()
        finish()
        controller.pause().stop()
        app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN)
        assertTrue(app.session.isOpen)
        app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND)
        pump("the model's end") { !app.session.isOpen && app.session.state.info == null }
        controller.restart().start().resume()
        assertTrue("${app.session.state.notice}", app.session.state.notice == null)
        assertEquals(golden, controller.get().text(R.id.answer))
    }

    @Test
    fun aBenchmarkOutOfSightOrShortOfMemoryHasNoReport() {
        val controller = benchmark(50, 64)
        val activity = controller.get()
        fun text(id: Int) = activity.findViewById<TextView>(id).text.toString()
        activity.findViewById<Button>(R.id.start).performClick()
        assertTrue(activity.has(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON))
        pump("a round") { text(R.id.state).startsWith("Round 2") }
        controller.pause().stop()
        controller.restart().start().resume()
        assertEquals(app.getString(R.string.bench_failed, app.getString(R.string.bench_background)), text(R.id.state))
        assertFalse(activity.has(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON))
        activity.findViewById<Button>(R.id.start).performClick()
        pump("a round") { text(R.id.state).startsWith("Round 1") }
        app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL)
        pump("the model's end") { !app.session.isOpen }
        assertEquals(app.getString(R.string.bench_failed, app.getString(R.string.memory_low)), text(R.id.state))
        assertEquals(View.GONE, activity.findViewById<View>(R.id.chart).visibility)
        assertFalse(activity.findViewById<View>(R.id.share).isEnabled)
    }

    @Test
    fun aThrottledBenchmarkSaysSoAndAFullDiskIsASentence() {
        assumeTrue(Build.VERSION.SDK_INT >= 29)
        val activity = benchmark(1, 16).get()
        fun text(id: Int) = activity.findViewById<TextView>(id).text.toString()
        activity.findViewById<Button>(R.id.start).performClick()
        pump("a round") { text(R.id.state).startsWith("Round 1") }
        heat(PowerManager.THERMAL_STATUS_SEVERE)
        pump("the status") { "thermal: severe" in text(R.id.state) || activity.findViewById<View>(R.id.share).isEnabled }
        pump("the report") { activity.findViewById<View>(R.id.share).isEnabled }
        assertTrue(text(R.id.rows), text(R.id.rows).startsWith(app.getString(R.string.bench_throttled, "severe")))
        ShareProvider.folder(app).run {
            deleteRecursively()
            writeText("no folder can be here")
        }
        activity.findViewById<Button>(R.id.share).performClick()
        pump("the sentence") { text(R.id.state).startsWith("Nothing was shared: ") }
        assertTrue(shadowOf(activity).nextStartedActivity == null)
        heat(PowerManager.THERMAL_STATUS_NONE)
        ShareProvider.folder(app).delete()
    }

    @Test
    fun lowMemoryHeatAndBackgroundAreVisible() {
        val controller = start()
        val activity = controller.get()
        app.session.settings { copy(maxTokens = 3000, speculation = Speculation.OFF) }
        if (Build.VERSION.SDK_INT >= 29) {
            heat(PowerManager.THERMAL_STATUS_SEVERE)
            pump("heat") { app.session.state.hot }
            assertTrue(activity.text(R.id.notice).contains("severe") && activity.text(R.id.figures).contains("thermal: severe"))
        }
        activity.go()
        pump("the first words") { app.session.state.answer.isNotEmpty() }
        app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL)
        pump("the model's end") { !app.session.state.busy && app.session.state.info == null }
        assertTrue(activity.text(R.id.notice).startsWith(app.getString(R.string.memory_low)))
        if (Build.VERSION.SDK_INT >= 29) heat(PowerManager.THERMAL_STATUS_NONE)
        activity.go()
        pump("the first words") { app.session.state.phase == Phase.Running && app.session.state.answer.isNotEmpty() }
        controller.pause().stop()
        finish()
        controller.restart().start().resume()
        assertEquals(app.getString(R.string.stopped_background), activity.text(R.id.notice))
    }

    @Test
    fun barsCoverNothing() {
        val activity = start().get()
        val root = activity.view<View>(R.id.root)
        val panel = activity.view<View>(R.id.panel)
        val before = panel.paddingBottom
        root.dispatchApplyWindowInsets(
            if (Build.VERSION.SDK_INT >= 30) WindowInsets.Builder().setInsets(WindowInsets.Type.systemBars(), Insets.of(0, 80, 0, 120)).build()
            else WindowInsets::class.java.getConstructor(Rect::class.java).newInstance(Rect(0, 80, 0, 120)),  // hidden, and the only way there
        )
        assertEquals(80, root.paddingTop)
        assertEquals(before + 120, panel.paddingBottom)
    }

    @Test
    fun theBenchmarkSharesJsonAndAPicture() {
        val activity = benchmark(3, 32).get()
        activity.findViewById<Button>(R.id.start).performClick()
        pump("the report") { activity.findViewById<Button>(R.id.share).isEnabled }
        activity.findViewById<Button>(R.id.share).performClick()
        var started: Intent? = null
        pump("the files") { shadowOf(activity).nextStartedActivity?.let { started = it } != null }
        val chooser = started!!
        @Suppress("DEPRECATION") val sent = chooser.getParcelableExtra<Intent>(Intent.EXTRA_INTENT)!!
        @Suppress("DEPRECATION") val uris = sent.getParcelableArrayListExtra<Uri>(Intent.EXTRA_STREAM)!!
        val provider = Robolectric.setupContentProvider(ShareProvider::class.java, "org.blockffn.demo.share")
        val files = uris.map { uri -> android.os.ParcelFileDescriptor.AutoCloseInputStream(provider.openFile(uri, "r")).use { it.readBytes() } }
        val json = JSONObject(String(files[0]))
        val cases = json.getJSONArray("cases")
        assertEquals(4, cases.length())
        for (i in 0 until cases.length()) {
            val case = cases.getJSONObject(i)
            val speeds = case.getJSONArray("runs").let { runs -> List(runs.length()) { runs.getJSONObject(it).getDouble("tokens_per_s") } }
            assertEquals(3, speeds.size)
            assertEquals(speeds.sorted()[1], case.getDouble("tokens_per_s_median"), 1e-9)
            assertEquals(speeds.min(), case.getDouble("tokens_per_s_min"), 1e-9)
            val all = case.getString("experts") == "all"
            assertEquals(all, i < 2)
            assertEquals(all, case.getDouble("share_read_median") == 1.0)
        }
        assertEquals(0x50, files[1][1].toInt())  // "PNG"
        assertTrue(files[1].size > 2000)
        assertThrows(java.io.FileNotFoundException::class.java) { provider.openFile(Uri.parse("content://org.blockffn.demo.share/..%2Fother"), "r") }
        activity.findViewById<View>(R.id.root).scrollTo(0, 0)
        shot(activity.window.decorView, "benchmark")
    }

    @Test
    fun samplingIsWhatTheSlidersSay() {
        val activity = start().get()
        activity.view<Button>(R.id.settings_toggle).performClick()
        val panel = activity.view<ViewGroup>(R.id.settings)
        val sliders = (0 until panel.childCount).map { panel.getChildAt(it) }.filterIsInstance<SeekBar>()
        assertEquals(6, sliders.size)

        // As a screen reader moves it.
        fun move(slider: SeekBar, to: Int, label: String) {
            val value = Bundle().apply { putFloat(AccessibilityNodeInfo.ACTION_ARGUMENT_PROGRESS_VALUE, to.toFloat()) }
            assertTrue(slider.performAccessibilityAction(android.R.id.accessibilityActionSetProgress, value))
            assertEquals(label, slider.contentDescription.toString())
            assertEquals(label, (panel.getChildAt(panel.indexOfChild(slider) - 1) as TextView).text.toString())
        }

        move(sliders[1], 10, app.getString(R.string.temperature, 1.0))
        move(sliders[2], 1, app.getString(R.string.top_k, 1))
        activity.go()
        finish()
        assertEquals(golden, activity.text(R.id.answer)) // of one token the likeliest is drawn, at any temperature
        move(sliders[2], 0, app.getString(R.string.top_k_off))
        move(sliders[3], 19, app.getString(R.string.top_p, 1.0))
        move(sliders[4], 2, app.getString(R.string.repetition_penalty, 1.1))
        move(sliders[5], 42, app.getString(R.string.seed, 42))
        move(sliders[0], 1, app.getString(R.string.max_tokens, 32))
        assertEquals(Settings(maxTokens = 32, temperature = 1.0, topK = 0, topP = 1.0, repetitionPenalty = 1.1, seed = 42), app.session.state.settings)
        activity.go()
        finish()
        val sampled = activity.text(R.id.answer)
        assertEquals(32L, app.session.state.stats!!.generatedTokens)
        assertFalse(golden.startsWith(sampled))
        activity.go()
        finish()
        assertEquals("the same seed", sampled, activity.text(R.id.answer))
    }

    @Test
    @Config(qualifiers = "+night")
    fun night() {
        val activity = start().get()
        activity.view<Button>(R.id.settings_toggle).performClick()
        app.session.settings { copy(maxTokens = 48) }
        activity.go()
        finish()
        shot(activity.window.decorView, "night")
    }

    @Test
    fun largeFont() {
        RuntimeEnvironment.setFontScale(1.6f)
        val activity = start().get()
        activity.go()
        finish()
        shot(activity.window.decorView, "large-font")
    }

    @Test
    @Config(qualifiers = "ar-ldrtl-w411dp-h891dp-xxhdpi")
    fun rightToLeft() {
        val activity = start().get()
        assertEquals(View.LAYOUT_DIRECTION_RTL, activity.view<View>(R.id.root).layoutDirection)
        activity.go()
        finish()
        shot(activity.window.decorView, "right-to-left")
    }

    @Test
    fun noticesAreShown() {
        val controller = Robolectric.buildActivity(NoticesActivity::class.java).also { controllers.add(it) }.setup()
        val found = ArrayList<View>()
        controller.get().window.decorView.findViewsWithText(found, "ExecuTorch", View.FIND_VIEWS_WITH_TEXT)
        assertTrue(found.isNotEmpty())
    }

    /** The README's function for coroutines, to the end, and given up in the middle. */
    @Test
    fun aRunIsAFlow() {
        val model = start().let { app.session.models.open(app.session.state.model!!) }
        val prompt = app.getString(R.string.prompt_default)
        model.use {
            runBlocking {
                assertEquals(golden, model.texts(prompt, Options(maxTokens = 160)).toList().joinToString(""))
                val long = Options(maxTokens = 3000, speculation = Speculation.OFF)
                fun seconds(body: suspend () -> Unit) = measureTimeMillis {
                    runBlocking { body() }
                    model.encode("x")  // waits for the run's end
                } / 1e3
                val whole = seconds { assertTrue(model.texts(prompt, long).toList().size > 1000) }
                val part = seconds { assertTrue(golden.startsWith(model.texts(prompt, long).take(5).toList().joinToString(""))) }
                assertTrue("$part s of $whole", part < whole / 2)
            }
        }
    }

    @Test
    fun theLibraryOnItsOwn() {
        val tokenizer = { ModelFile.asset(app, "models/blockffn-22m-docs/tokenizer.json") }
        val program = { ModelFile.asset(app, "models/blockffn-22m-docs/model-int8.pte") }
        val model = BlockFFN.open(program(), tokenizer())
        assertTrue(model.info.maxContext > 100 && model.info.kernels.isNotEmpty() && model.info.threads >= 1)
        val prompt = app.getString(R.string.prompt_default)
        val text = StringBuilder()
        var calls = 0
        model.generate(prompt, Options(maxTokens = 160)) { piece, _ -> text.append(piece); calls++; true }
        assertEquals(golden, text.toString())
        val ids = ArrayList<Int>()
        val stats = model.generateTokens(model.encode(prompt), Options(maxTokens = 12)) { ids.add(it); ids.size < 5 }
        assertEquals(5, ids.size)
        assertEquals(StoppedBy.CALLBACK, stats.stoppedBy)
        // UTF-8, not JNI's modified UTF-8, which would spell the emoji in six bytes.
        assertEquals("🙂".toByteArray().size, 4)
        assertTrue(model.encode("🙂").size <= 5)
        // A callback's exception comes out as it is, and the model goes on.
        val thrown = assertThrows(IllegalStateException::class.java) { model.generate(prompt) { _, _ -> throw IllegalStateException("mine") } }
        assertEquals("mine", thrown.message)
        val bad = assertThrows(BlockFFNException::class.java) { model.generate(prompt, Options(maxTokens = 0)) { _, _ -> true } }
        assertEquals(BlockFFNException.Reason.BAD_ARGUMENT, bad.reason)
        val long = assertThrows(BlockFFNException::class.java) { model.generate("word ".repeat(9000)) { _, _ -> true } }
        assertEquals(BlockFFNException.Reason.CONTEXT_FULL, long.reason)
        val chat = assertThrows(BlockFFNException::class.java) { model.chat(listOf(BlockFFN.Message("user", "hello"))) { _, _ -> true } }
        assertTrue(chat.message!!, chat.message!!.length > 20)
        assertEquals(12, ArrayList<Int>().also { model.generateTokens(model.encode(prompt), Options(maxTokens = 12)) { id -> it.add(id) } }.size)
        // A callback that called the model would wait for itself.
        val nested = assertThrows(IllegalStateException::class.java) { model.generate(prompt) { _, _ -> model.encode("x").isNotEmpty() } }
        assertTrue(nested.message, nested.message!!.startsWith("a callback called the model"))
        // Who gives up while waiting for his turn ends nobody else's run.
        var waiting: Thread? = null
        var gaveUp: Throwable? = null
        val whole = model.generateTokens(model.encode(prompt), Options(maxTokens = 200, speculation = Speculation.OFF)) {
            if (waiting == null) {
                waiting = Thread { gaveUp = runCatching { model.encode("x") }.exceptionOrNull() }.apply {
                    start()
                    while (state != Thread.State.WAITING) Thread.sleep(1)
                    interrupt()
                    join()
                }
            }
            true
        }
        assertTrue("$gaveUp", gaveUp is InterruptedException)
        assertEquals(StoppedBy.MAX_TOKENS, whole.stoppedBy)
        // And who is interrupted in his own run ends it.
        val self = Thread.currentThread()
        var interrupted = false
        assertThrows(InterruptedException::class.java) {
            model.generate(prompt, Options(maxTokens = 3000)) { _, _ ->
                if (!interrupted) self.interrupt()
                interrupted = true
                true
            }
        }
        assertEquals(12, ArrayList<Int>().also { model.generateTokens(model.encode(prompt), Options(maxTokens = 12)) { id -> it.add(id) } }.size)
        model.cancel()
        model.close()
        model.close()
        // Closed from a callback, a model ends there and then.
        val closed = BlockFFN.open(program(), tokenizer())
        val started = System.nanoTime()
        val last = runCatching { closed.generate(prompt, Options(maxTokens = 3000)) { _, _ -> closed.close().let { true } } }
        assertTrue("$last", last.getOrNull()?.stoppedBy == StoppedBy.CANCELLED && System.nanoTime() - started < 8_000_000_000)
        assertThrows(IllegalStateException::class.java) { closed.encode("x") }
        assertThrows(IllegalStateException::class.java) { model.encode("x") }
        val swapped = assertThrows(BlockFFNException::class.java) { BlockFFN.open(tokenizer(), tokenizer()) }
        assertEquals(BlockFFNException.Reason.BAD_PROGRAM, swapped.reason)
        assertFalse(swapped.message.isNullOrEmpty())
    }
}
