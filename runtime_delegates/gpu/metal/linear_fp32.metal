// Written by build_shaders.py from shaders/linear.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _287 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _290 = (THREADS * TOKENS);
constant uint _291 = (_290 * 4u);
constant uint _316 = (64u * TOKENS);
constant uint _353 = (64u * TOKENS);
constant bool _409 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint tiles_per_group;
    uint row_offset;
    uint rows;
    uint cols;
    uint x_stride;
    uint x_group;
    uint y_stride;
    uint y_group;
    uint bias_at;
    uint flags;
    float scale;
    uint residual_stride;
};

constant uint _479 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _580 = (TOKENS * 4u);
constant bool _612 = (TOKENS >= 4u);
constant bool _614 = (_612 && false);
constant int _615 = _614 ? 2 : 2;
constant uint _616 = (uint(_615) + 0u);
constant bool _672 = (TOKENS >= 4u);
constant bool _673 = (_672 && false);
constant int _674 = _673 ? 2 : 2;
constant uint _675 = (uint(_674) + 0u);

struct X
{
    float4 x[1];
};

constant bool _795 = (TOKENS >= 4u);
constant bool _796 = (_795 && false);
constant int _797 = _796 ? 2 : 2;
constant uint _798 = (uint(_797) + 0u);
constant uint _799 = (_798 * THREADS);

struct Bias
{
    float bias0[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _877 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_877, 1u, 1u);

kernel void linear_fp32(constant Push& p [[buffer(0)]], const device Weights& _122 [[buffer(1)]], const device X& _738 [[buffer(2)]], device Y& _505 [[buffer(3)]], const device Bias& _829 [[buffer(4)]], const device Step& _417 [[buffer(5)]], const device Residual& _853 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_291];
    threadgroup float chunk_sums[_353];
    do
    {
        uint _407 = gl_WorkGroupID.z * TOKENS;
        uint _1182;
        if (_409)
        {
            _1182 = 1u;
        }
        else
        {
            _1182 = _417.step_[0];
        }
        uint _1183;
        if ((p.flags & 2u) != 0u)
        {
            _1183 = _417.step_[2];
        }
        else
        {
            _1183 = 0u;
        }
        if (_407 >= _1182)
        {
            break;
        }
        uint _456 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _461 = _407 + (gl_LocalInvocationID.x / 8u);
        uint _472 = gl_WorkGroupID.y * p.y_group;
        uint _475 = ((_461 * p.y_stride) + _472) + _456;
        bool _480 = gl_LocalInvocationID.x < _479;
        bool _488;
        if (_480)
        {
            _488 = _456 < p.rows;
        }
        else
        {
            _488 = _480;
        }
        bool _491 = _461 < _1182;
        bool _492 = _488 && _491;
        if ((_407 + TOKENS) <= _1183)
        {
            if (_492)
            {
                _505.y[_475] = 0.0;
            }
            break;
        }
        uint _524 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1184 = 0u; _1184 < TOKENS; )
        {
            x_at[_1184] = ((_407 + _1184) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1184++;
            continue;
        }
        uint _556 = _1182 - _407;
        float acc[32];
        for (uint _1185 = 0u; _1185 < _580; )
        {
            acc[_1185] = 0.0;
            _1185++;
            continue;
        }
        uint _890 = ((p.cols + 3u) / 4u) * 2u;
        uint4 raw[2][4];
        float param_1[4];
        for (uint _1186 = gl_LocalInvocationID.x; _1186 < _890; _1186 += _799)
        {
            for (uint _1196 = 0u; _1196 < 2u; _1196++)
            {
                bool _617 = _1196 < _616;
                bool _626;
                if (_617)
                {
                    _626 = (_1186 + (_1196 * THREADS)) < _890;
                }
                else
                {
                    _626 = _617;
                }
                if (_626)
                {
                    uint _632 = _1186 + (_1196 * THREADS);
                    uint _897 = _632 >> uint(1);
                    uint _898 = _897 * 4u;
                    uint _905 = (_524 + (_897 * 8u)) + (_632 & 1u);
                    uint4 _1230;
                    if (_898 < p.cols)
                    {
                        _1230 = _122.weights[_905];
                    }
                    else
                    {
                        _1230 = uint4(0u);
                    }
                    uint4 _1339;
                    if ((_898 + 1u) < p.cols)
                    {
                        _1339 = _122.weights[_905 + 2u];
                    }
                    else
                    {
                        _1339 = uint4(0u);
                    }
                    uint4 _1357;
                    if ((_898 + 2u) < p.cols)
                    {
                        _1357 = _122.weights[_905 + 4u];
                    }
                    else
                    {
                        _1357 = uint4(0u);
                    }
                    uint4 _1375;
                    if ((_898 + 3u) < p.cols)
                    {
                        _1375 = _122.weights[_905 + 6u];
                    }
                    else
                    {
                        _1375 = uint4(0u);
                    }
                    uint4 _1505[4] = { _1230, _1339, _1357, _1375 };
                    spvArrayCopyFromStackToStack1(raw[_1196], _1505);
                }
            }
            for (uint _1197 = 0u; _1197 < 2u; _1197++)
            {
                uint _670 = _1186 + (_1197 * THREADS);
                if ((_1197 >= _675) || (_670 >= _890))
                {
                    continue;
                }
                float4 _1514[4] = { float4(as_type<float>(raw[_1197][0].x), as_type<float>(raw[_1197][1].x), as_type<float>(raw[_1197][2].x), as_type<float>(raw[_1197][3].x)), float4(as_type<float>(raw[_1197][0].y), as_type<float>(raw[_1197][1].y), as_type<float>(raw[_1197][2].y), as_type<float>(raw[_1197][3].y)), float4(as_type<float>(raw[_1197][0].z), as_type<float>(raw[_1197][1].z), as_type<float>(raw[_1197][2].z), as_type<float>(raw[_1197][3].z)), float4(as_type<float>(raw[_1197][0].w), as_type<float>(raw[_1197][1].w), as_type<float>(raw[_1197][2].w), as_type<float>(raw[_1197][3].w)) };
                for (uint _1201 = 0u; _1201 < TOKENS; _1201 += 4u)
                {
                    if ((_1201 != 0u) && (_1201 >= _556))
                    {
                        continue;
                    }
                    for (uint _1202 = _1201; _1202 < (_1201 + 4u); _1202++)
                    {
                        if (_1202 >= TOKENS)
                        {
                            continue;
                        }
                        uint _747 = x_at[_1202] + (_670 >> uint(1));
                        float4 param[4];
                        spvArrayCopyFromStackToStack1(param, _1514);
                        for (uint _1205 = 0u; _1205 < 4u; )
                        {
                            param_1[_1205] = fma(param[_1205].w, _738.x[_747].w, fma(param[_1205].z, _738.x[_747].z, fma(param[_1205].y, _738.x[_747].y, spvFMul(param[_1205].x, _738.x[_747].x))));
                            _1205++;
                            continue;
                        }
                        uint _772 = _1202 * 4u;
                        acc[_772] = spvFAdd(acc[_772], param_1[0]);
                        uint _1448 = _772 + 1u;
                        acc[_1448] += param_1[1];
                        uint _1465 = _772 + 2u;
                        acc[_1465] += param_1[2];
                        uint _1482 = _772 + 3u;
                        acc[_1482] += param_1[3];
                    }
                }
            }
        }
        float param_2[32];
        spvArrayCopyFromStackToStack1(param_2, acc);
        for (uint _1187 = 0u; _1187 < _287; )
        {
            partial[(_1187 * THREADS) + gl_LocalInvocationID.x] = param_2[_1187];
            _1187++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1188 = gl_LocalInvocationID.x; _1188 < _316; _1188 += THREADS)
        {
            uint _1108 = (((_1188 / 16u) * THREADS) + ((_1188 / 8u) % 2u)) + (2u * (_1188 % 8u));
            float _1195;
            _1195 = partial[_1108];
            for (uint _1193 = 16u; _1193 < THREADS; )
            {
                _1195 = spvFAdd(_1195, partial[_1108 + _1193]);
                _1193 += 16u;
                continue;
            }
            chunk_sums[_1188] = _1195;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_492)
        {
            break;
        }
        uint _814 = gl_LocalInvocationID.x % 8u;
        uint _1149 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_814 % 4u)) * 2u) + (_814 / 4u)) * 8u;
        float _819 = spvFMul((((((spvFAdd(chunk_sums[_1149], chunk_sums[_1149 + 1u]) + chunk_sums[_1149 + 2u]) + chunk_sums[_1149 + 3u]) + chunk_sums[_1149 + 4u]) + chunk_sums[_1149 + 5u]) + chunk_sums[_1149 + 6u]) + chunk_sums[_1149 + 7u], spvFMul(p.scale, 1.0));
        float _1191;
        if ((p.flags & 1u) != 0u)
        {
            _1191 = spvFAdd(_819, _829.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _456]);
        }
        else
        {
            _1191 = _819;
        }
        float _1192;
        if ((p.flags & 4u) != 0u)
        {
            _1192 = spvFAdd(_1191, _853.residual[((_461 * p.residual_stride) + _472) + _456]);
        }
        else
        {
            _1192 = _1191;
        }
        _505.y[_475] = (_461 < _1183) ? 0.0 : _1192;
        break;
    } while(false);
}

