package org.blockffn.demo

import android.app.Activity
import android.os.Bundle
import android.widget.ScrollView
import android.widget.TextView
import kotlin.math.roundToInt

/** The licences of what the app is made of. */
class NoticesActivity : Activity() {
    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        val text = TextView(this, null, 0, R.style.Label)
        text.text = assets.open("NOTICES.txt").use { it.readBytes().toString(Charsets.UTF_8) }
        text.setTextIsSelectable(true)
        val scroll = ScrollView(this)
        val padding = (16 * resources.displayMetrics.density).roundToInt()
        scroll.setPadding(padding, padding, padding, padding)
        scroll.clipToPadding = false
        scroll.addView(text)
        setContentView(scroll)
        fitInsets(scroll)
    }
}
