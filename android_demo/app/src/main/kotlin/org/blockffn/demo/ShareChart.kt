package org.blockffn.demo

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.Path
import android.util.AttributeSet
import android.util.TypedValue
import android.view.View
import kotlin.math.max
import kotlin.math.roundToInt

/** The share of the experts that each of the last steps read: an area from 0 to 100 %, the newest at the end. */
class ShareChart(context: Context, attributes: AttributeSet?) : View(context, attributes) {
    private val density = resources.displayMetrics.density
    private val sp12 = TypedValue.applyDimension(TypedValue.COMPLEX_UNIT_SP, 12f, resources.displayMetrics)
    private val fill = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = context.getColor(R.color.accent_soft) }
    private val line = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = context.getColor(R.color.accent)
        style = Paint.Style.STROKE
        strokeWidth = 2 * density
        strokeJoin = Paint.Join.ROUND
    }
    private val grid = Paint().apply {
        color = context.getColor(R.color.outline)
        strokeWidth = density
    }
    private val text = Paint(Paint.ANTI_ALIAS_FLAG).apply {
        color = context.getColor(R.color.text_secondary)
        textSize = sp12
    }
    private val area = Path()
    private val edge = Path()
    private var shares: List<Float> = emptyList()

    init {
        show(emptyList())
    }

    fun show(values: List<Float>) {
        shares = values.takeLast(STEPS)
        contentDescription = if (shares.isEmpty()) context.getString(R.string.chart_empty)
        else context.getString(R.string.chart_described, (shares.last() * 100).roundToInt())
        invalidate()
    }

    override fun onMeasure(widthSpec: Int, heightSpec: Int) {
        setMeasuredDimension(MeasureSpec.getSize(widthSpec), (48 * density + 1.3f * sp12).roundToInt())
    }

    override fun onSizeChanged(width: Int, height: Int, oldWidth: Int, oldHeight: Int) {
        text.textSize = sp12
        val needed = text.measureText(context.getString(R.string.chart) + "  100 %")
        if (needed > width) text.textSize *= width / needed
    }

    override fun onDraw(canvas: Canvas) {
        val right = layoutDirection == LAYOUT_DIRECTION_RTL
        val top = text.textSize + 4 * density
        val bottom = height - density
        val title = context.getString(R.string.chart)
        text.textAlign = if (right) Paint.Align.RIGHT else Paint.Align.LEFT
        canvas.drawText(title, if (right) width.toFloat() else 0f, text.textSize, text)
        if (shares.isNotEmpty()) {
            text.textAlign = if (right) Paint.Align.LEFT else Paint.Align.RIGHT
            canvas.drawText("${(shares.last() * 100).roundToInt()} %", if (right) 0f else width.toFloat(), text.textSize, text)
        }
        for (level in 0..2) {
            val y = bottom - (bottom - top) * level / 2
            canvas.drawLine(0f, y, width.toFloat(), y, grid)
        }
        if (shares.size < 2) return
        area.rewind()
        edge.rewind()
        val step = width.toFloat() / max(shares.size - 1, MIN_STEPS)
        shares.forEachIndexed { i, share ->
            val x = if (right) width - i * step else i * step
            val y = bottom - (bottom - top) * share.coerceIn(0f, 1f)
            if (i == 0) {
                edge.moveTo(x, y)
                area.moveTo(x, bottom)
            } else {
                edge.lineTo(x, y)
            }
            area.lineTo(x, y)
            if (i == shares.size - 1) area.lineTo(x, bottom)
        }
        area.close()
        canvas.drawPath(area, fill)
        canvas.drawPath(edge, line)
    }

    private companion object {
        const val STEPS = 240
        const val MIN_STEPS = 40  // so that the first steps do not jump across the chart
    }
}
