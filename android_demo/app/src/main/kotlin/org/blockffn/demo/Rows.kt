package org.blockffn.demo

import android.content.Context
import android.util.AttributeSet
import android.view.View
import android.view.ViewGroup.LayoutParams
import android.widget.LinearLayout
import android.widget.RadioGroup
import android.widget.ScrollView

/** Buttons side by side, or one above the other where their words would not fit: large fonts, small screens. */
class ButtonRow(context: Context, attributes: AttributeSet?) : LinearLayout(context, attributes) {
    override fun onMeasure(widthSpec: Int, heightSpec: Int) {
        stackUnlessFits(widthSpec)
        super.onMeasure(widthSpec, heightSpec)
    }
}

/** The same of choices. */
class SegmentRow(context: Context, attributes: AttributeSet?) : RadioGroup(context, attributes) {
    override fun onMeasure(widthSpec: Int, heightSpec: Int) {
        stackUnlessFits(widthSpec)
        super.onMeasure(widthSpec, heightSpec)
    }
}

/** At most two fifths of the screen, and scrolls beyond: figures in large letters must not push the answer out of sight. */
class LowScroll(context: Context, attributes: AttributeSet?) : ScrollView(context, attributes) {
    override fun onMeasure(widthSpec: Int, heightSpec: Int) {
        val most = minOf(View.MeasureSpec.getSize(heightSpec), resources.displayMetrics.heightPixels * 2 / 5)
        super.onMeasure(widthSpec, View.MeasureSpec.makeMeasureSpec(most, View.MeasureSpec.AT_MOST))
    }
}

private fun LinearLayout.stackUnlessFits(widthSpec: Int) {
    val any = View.MeasureSpec.makeMeasureSpec(0, View.MeasureSpec.UNSPECIFIED)
    val children = List(childCount) { getChildAt(it) }
    val gaps = (children.size - 1) * (dividerDrawable?.intrinsicWidth ?: 0)
    val needed = children.sumOf {
        it.measure(any, any)
        it.measuredWidth
    }
    val fits = needed + gaps + paddingLeft + paddingRight <= View.MeasureSpec.getSize(widthSpec)
    orientation = if (fits) LinearLayout.HORIZONTAL else LinearLayout.VERTICAL
    for (child in children) child.layoutParams.width = if (fits) LayoutParams.WRAP_CONTENT else LayoutParams.MATCH_PARENT
}
