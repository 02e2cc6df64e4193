package org.blockffn.demo

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Paint
import android.os.Build
import android.text.Layout
import android.text.StaticLayout
import android.text.TextPaint
import android.util.AttributeSet
import android.util.TypedValue
import android.view.View
import java.util.Locale
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.roundToInt

/** A bar per case, its median in tokens a second, with a line from the smallest to the largest. Also the shared picture. */
class BenchmarkChart(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val dp = resources.displayMetrics.density
    private val paint = TextPaint(Paint.ANTI_ALIAS_FLAG)
    private var report: Report? = null

    fun show(value: Report) {
        report = value
        contentDescription = value.results.joinToString("; ") { "${it.case.name}: ${number(it.speed)} tokens a second" }
        requestLayout()
        invalidate()
    }

    override fun onMeasure(widthSpec: Int, heightSpec: Int) {
        val width = MeasureSpec.getSize(widthSpec)
        setMeasuredDimension(width, report?.let { ceil(draw(null, it, width.toFloat(), ::letters)).roundToInt() } ?: 0)
    }

    override fun onDraw(canvas: Canvas) {
        report?.let { draw(canvas, it, width.toFloat(), ::letters) }
    }

    private fun letters(size: Float) = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_SP, size, resources.displayMetrics)

    /** The same on a background of its own, 360 dp wide, with letters that are no larger than usual. */
    fun picture(): Bitmap {
        val report = report!!
        val usual = { size: Float -> size * dp }
        val height = draw(null, report, 360 * dp, usual)
        val bitmap = Bitmap.createBitmap((360 * dp).roundToInt(), ceil(height).roundToInt(), Bitmap.Config.ARGB_8888)
        val canvas = Canvas(bitmap)
        canvas.drawColor(context.getColor(R.color.surface))
        draw(canvas, report, bitmap.width.toFloat(), usual)
        return bitmap
    }

    /** Draws, or without a canvas only measures; returns the height. */
    private fun draw(canvas: Canvas?, report: Report, width: Float, letters: (Float) -> Float): Float {
        val left = 14 * dp
        val right = width - 14 * dp
        val rightToLeft = layoutDirection == LAYOUT_DIRECTION_RTL

        fun size(of: Float) {
            paint.textSize = letters(of)
        }

        /** Returns the height; what does not fit into a line goes on in the next. */
        fun text(words: String, y: Float, color: Int, atEnd: Boolean = false): Float {
            paint.color = context.getColor(color)
            val onRight = atEnd != rightToLeft
            val layout = StaticLayout.Builder.obtain(words, 0, words.length, paint, max(1, (right - left).toInt()))
                .setAlignment(if (onRight) Layout.Alignment.ALIGN_OPPOSITE else Layout.Alignment.ALIGN_NORMAL).build()
            canvas?.run {
                save()
                translate(left, y)
                layout.draw(this)
                restore()
            }
            return layout.height.toFloat()
        }

        val most = report.results.maxOf { it.speeds.lastOrNull() ?: 0.0 }.coerceAtLeast(1e-9)
        fun x(value: Double): Float {
            val length = ((right - left) * value / most).toFloat()
            return if (rightToLeft) right - length else left + length
        }

        fun bar(from: Double, to: Double, top: Float, height: Float, radius: Float, color: Int) {
            paint.color = context.getColor(color)
            canvas?.drawRoundRect(minOf(x(from), x(to)), top, max(x(from), x(to)), top + height, radius, radius, paint)
        }

        var y = 10 * dp
        for (result in report.results) {
            size(14f)
            val speed = "${number(result.speed)} tok/s"
            val fits = paint.measureText(result.case.name) + paint.measureText(speed) + 12 * dp <= right - left
            val name = text(result.case.name, y, R.color.text)
            y += if (fits) max(name, text(speed, y, R.color.text, atEnd = true)) else name + text(speed, y + name, R.color.text)
            y += 4 * dp
            bar(0.0, result.speed, y, 14 * dp, 4 * dp, if (result.case.allExperts) R.color.text_secondary else R.color.accent)
            bar(result.speeds.firstOrNull() ?: 0.0, result.speeds.lastOrNull() ?: 0.0, y + 6.25f * dp, 1.5f * dp, 0f, R.color.text)
            y += 24 * dp
        }
        size(12f)
        val engine = if (report.info.onGpu) "GPU" else "${report.info.kernels} kernels · ${report.info.threads} threads"
        y += text("${Build.MODEL} · $engine", y, R.color.text_secondary) + 2 * dp
        y += text("BlockFFN Edge, median of ${report.results.firstOrNull()?.runs?.size ?: 0}", y, R.color.text_secondary)
        return y + 10 * dp
    }

    private fun number(value: Double) = String.format(Locale.ROOT, if (value < 100) "%.1f" else "%.0f", value)
}
