package org.blockffn.demo

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Paint
import android.os.Build
import android.util.AttributeSet
import android.view.View
import java.util.Locale
import kotlin.math.roundToInt

/** A bar per case, its median in tokens a second, with a line from the smallest to the largest. Also the shared picture. */
class BenchmarkChart(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val unit = resources.displayMetrics.density * resources.configuration.fontScale.coerceAtMost(1.3f)
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG)
    private var report: Report? = null

    fun show(value: Report) {
        report = value
        contentDescription = value.results.joinToString("; ") { "${it.case.name}: ${number(it.speed)} tokens a second" }
        requestLayout()
        invalidate()
    }

    override fun onMeasure(widthSpec: Int, heightSpec: Int) {
        val width = MeasureSpec.getSize(widthSpec)
        setMeasuredDimension(width, height(report?.results?.size ?: 0).roundToInt())
    }

    override fun onDraw(canvas: Canvas) {
        report?.let { draw(canvas, it, width.toFloat()) }
    }

    /** The same on a background of its own. */
    fun picture(): Bitmap {
        val report = report!!
        val bitmap = Bitmap.createBitmap((360 * unit).roundToInt(), height(report.results.size).roundToInt(), Bitmap.Config.ARGB_8888)
        val canvas = Canvas(bitmap)
        canvas.drawColor(context.getColor(R.color.surface))
        draw(canvas, report, bitmap.width.toFloat())
        return bitmap
    }

    private fun height(rows: Int) = (54 + rows * ROW) * unit

    private fun draw(canvas: Canvas, report: Report, width: Float) {
        val left = 14 * unit
        val right = width - 14 * unit
        val right2left = layoutDirection == LAYOUT_DIRECTION_RTL
        fun text(words: String, y: Float, size: Int, color: Int, atEnd: Boolean) {
            paint.color = context.getColor(color)
            paint.textSize = size * unit
            val onRight = atEnd != right2left
            paint.textAlign = if (onRight) Paint.Align.RIGHT else Paint.Align.LEFT
            canvas.drawText(words, if (onRight) right else left, y, paint)
        }
        val most = report.results.maxOf { it.speeds.lastOrNull() ?: 0.0 }.coerceAtLeast(1e-9)
        fun x(value: Double): Float {
            val length = ((right - left) * value / most).toFloat()
            return if (right2left) right - length else left + length
        }
        report.results.forEachIndexed { i, result ->
            val top = (10 + i * ROW) * unit
            text(result.case.name, top + 14 * unit, 14, R.color.text, false)
            text("${number(result.speed)} tok/s", top + 14 * unit, 14, R.color.text, true)
            val start = x(0.0)
            val end = x(result.speed)
            paint.color = context.getColor(if (result.case.allExperts) R.color.text_secondary else R.color.accent)
            canvas.drawRoundRect(minOf(start, end), top + 21 * unit, maxOf(start, end), top + 35 * unit, 4 * unit, 4 * unit, paint)
            paint.color = context.getColor(R.color.text)
            val low = x(result.speeds.firstOrNull() ?: 0.0)
            val high = x(result.speeds.lastOrNull() ?: 0.0)
            canvas.drawRect(minOf(low, high), top + 27.25f * unit, maxOf(low, high), top + 28.75f * unit, paint)
        }
        val foot = height(report.results.size) - 26 * unit
        text("${Build.MODEL} · " + if (report.info.onGpu) "GPU" else "${report.info.kernels} kernels · ${report.info.threads} threads", foot, 12, R.color.text_secondary, false)
        text("BlockFFN Edge, median of ${report.results.firstOrNull()?.runs?.size ?: 0}", foot + 16 * unit, 12, R.color.text_secondary, false)
    }

    private fun number(value: Double) = String.format(Locale.ROOT, if (value < 100) "%.1f" else "%.0f", value)

    private companion object {
        const val ROW = 48f
    }
}
