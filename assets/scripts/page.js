// What runs once in the page, whatever its components do.

import "./listening.js";
import "./details.js";
import "./media.js";
import "./menus.js";
import "./sliders.js";
import "./tips.js";
