package org.blockffn.demo

import android.app.Activity
import android.view.View

/** Edge to edge: [padded] keeps its own padding and what the system covers. [bottom], if any, takes the lower edge instead. */
fun Activity.fitInsets(padded: View, bottom: View? = null) {
    NewerApi.edgeToEdge(window)
    val own = intArrayOf(padded.paddingLeft, padded.paddingTop, padded.paddingRight, padded.paddingBottom)
    val ownBottom = bottom?.paddingBottom ?: 0
    padded.setOnApplyWindowInsetsListener { _, insets ->
        val covered = NewerApi.covered(insets)
        padded.setPadding(
            own[0] + covered.left, own[1] + covered.top, own[2] + covered.right, own[3] + if (bottom == null) covered.bottom else 0,
        )
        bottom?.setPadding(bottom.paddingLeft, bottom.paddingTop, bottom.paddingRight, ownBottom + covered.bottom)
        insets
    }
}
